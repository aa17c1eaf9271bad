"""Lumina-DiMOO as a policy: rollouts, their log-probs, answers and images."""

from dataclasses import replace

import pytest
import torch
from lumina_requests import HIGH, SQUARE, WIDE, assert_same, drawings, edits, flat, rollouts, texts
from PIL import Image

from pairuni.config import LuminaDimooSettings
from pairuni.policies.registry import load_policy
from tiny_lumina import BYTE_IDS

pytest.importorskip("diffusers")


def scored(policy, trajectories):
    """The log-probs of each trajectory's decisions, without padding."""
    found = policy.log_probs(trajectories)
    return [row[mask.bool()].detach() for row, mask in zip(found.values, found.mask, strict=True)]


@pytest.mark.parametrize("branch", ["guided", "conditional"])
def test_recorded_log_probs_are_those_of_the_replay(lumina_policy, branch):
    trajectories = rollouts(lumina_policy, branch=branch)
    for one, values in zip(trajectories, scored(lumina_policy, trajectories), strict=True):
        assert one.decisions == len(values) == len(one.trace.choices)
        torch.testing.assert_close(values, one.log_probs, atol=1e-4, rtol=0)


def test_branches_sample_the_same_and_score_differently(lumina_policy):
    guided, conditional = (
        flat(lumina_policy.sample_images(drawings(branch=b))) for b in ("guided", "conditional")
    )
    for one, other in zip(guided, conditional, strict=True):
        assert torch.equal(one.trace.choices, other.trace.choices)
        assert (one.log_probs - other.log_probs).abs().max() > 0.1
    unguided = flat(lumina_policy.sample_images(drawings(guidance=1.0)))
    assert any(
        not torch.equal(one.trace.choices, two.trace.choices)
        for one, two in zip(guided, unguided, strict=True)
    )


def test_the_elbo_is_one_decision_and_the_same_whenever_it_is_scored(lumina_policy, whole_folder):
    settings = LuminaDimooSettings(
        model=str(whole_folder), type="lumina_dimoo", estimator="elbo", elbo_pairs=2
    )
    policy = load_policy(whole_folder, device="cpu", settings=settings)
    trajectories = rollouts(policy)
    assert all(one.decisions == 1 for one in trajectories)
    for one, values in zip(trajectories, scored(policy, trajectories), strict=True):
        torch.testing.assert_close(values, one.log_probs, atol=1e-4, rtol=0)
    first, again = scored(policy, trajectories), scored(policy, trajectories)
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
    assert len({float(one.log_probs) for one in trajectories}) == len(trajectories)
    for one, other in zip(trajectories, rollouts(lumina_policy), strict=True):
        assert torch.equal(one.trace.choices, other.trace.choices)


def test_results_do_not_depend_on_how_requests_are_put_together(lumina_policy):
    answers, drawn = lumina_policy.sample(texts(), drawings())
    assert_same(flat(answers), flat(lumina_policy.sample_text(texts())))
    assert_same(flat(drawn), flat(lumina_policy.sample_images(drawings())))
    edited = lumina_policy.sample_edits(edits())
    for place in range(3):
        part = texts(
            images=texts().images[place:][:1], questions=texts().questions[place:][:1], first_prompt=place
        )
        assert_same(lumina_policy.sample_text(part)[0], answers[place])
        one = edits(images=edits().images[place:][:1], instructions=edits().instructions[place:][:1])
        assert_same(lumina_policy.sample_edits(replace(one, first_prompt=place))[0], edited[place])
    rest = drawings(prompts=drawings().prompts[1:], first_prompt=1, rollouts=2)
    assert_same(lumina_policy.sample_images(rest)[0], drawn[1][:2])
    assert len({tuple(one.trace.choices.tolist()) for one in flat(drawn)}) == 6
    other = lumina_policy.sample_images(drawings(seed=5))
    assert not torch.equal(other[0][0].trace.choices, drawn[0][0].trace.choices)


def test_greedy_answers_need_no_seed(lumina_policy):
    first, second = (lumina_policy.sample_text(texts(temperature=0.0, seed=seed)) for seed in (1, 2))
    for group, other in zip(first, second, strict=True):
        choices = [one.trace.choices for one in (*group, *other)]
        assert all(torch.equal(choices[0], one) for one in choices)
    for one, values in zip(flat(first), scored(lumina_policy, flat(first)), strict=True):
        torch.testing.assert_close(values, one.log_probs, atol=1e-4, rtol=0)
    assert lumina_policy.answer(WIDE, "how many?", max_new_tokens=10) == first[1][0].text
    assert lumina_policy.answer(WIDE, "how many?") == lumina_policy.answer(
        WIDE, "how many?", max_new_tokens=8
    )


@pytest.mark.parametrize("end", [BYTE_IDS.end, BYTE_IDS.answer_end])
def test_text_up_to_the_end(lumina_policy, end):
    trace = lumina_policy.sample_text(texts())[0][0].trace
    tokenizer = lumina_policy.checkpoint.tokenizer
    written = torch.tensor([*tokenizer("a b ")["input_ids"], end, *tokenizer("c")["input_ids"], BYTE_IDS.end])
    made = lumina_policy.tasks.text(replace(trace, choices=written), torch.zeros(7))
    assert (made.text, made.finished, made.sampled_tokens, made.decisions) == ("a b", True, 5, 7)
    made = lumina_policy.tasks.text(replace(trace, choices=written[:4]), torch.zeros(4))
    assert (made.text, made.finished, made.sampled_tokens) == ("a b", False, 4)


def test_an_answer_ends_with_the_block_of_its_end(whole_folder):
    policy = load_policy(whole_folder, device="cpu")
    request = texts(temperature=0.0, rollouts=1, max_new_tokens=12)
    whole = [one.trace.choices for one in flat(policy.sample_text(request))]
    ends = [policy.tasks.prompts.ids.end, int(whole[0][5])]
    policy.tasks.ends = tuple(ends)
    for one, full in zip(flat(policy.sample_text(request)), whole, strict=True):
        hits = torch.isin(full, torch.tensor(ends)).nonzero()
        end = int(hits[0]) if len(hits) else 12
        assert torch.equal(one.trace.choices, full[: (end // 4 + 1) * 4 if len(hits) else 12])
        assert one.sampled_tokens == min(end + 1, 12)
        assert one.finished == bool(len(hits))
    assert one.prompt_tokens == len(one.trace.prompt.ids)


def test_images_have_the_size_of_the_checkpoint_and_edits_the_shape_of_their_source(lumina_policy):
    drawn = lumina_policy.sample_images(drawings())
    assert {image.size for image in lumina_policy.decode_images(flat(drawn))} == {(8, 8)}
    edited = flat(lumina_policy.sample_edits(edits()))
    assert [(one.height, one.width) for one in edited[::2]] == [(4, 4), (2, 6), (4, 2)]
    made = lumina_policy.decode_images(edited)
    assert [image.size for image in made[::2]] == [(8, 8), (12, 4), (4, 8)]
    assert all(one.sampled_tokens == one.height * one.width for one in edited)
    again = lumina_policy.edit_image(WIDE, "add a dog", guidance=2.0, image_guidance=1.5, temperature=1.2)
    first = edits(images=[WIDE], instructions=["add a dog"])
    assert again.tobytes() == lumina_policy.decode_images(lumina_policy.sample_edits(first)[0])[0].tobytes()
    assert len(lumina_policy.generate_images("a cat", 2)) == 2


def test_what_it_cannot_do_is_said(lumina_policy):
    assert lumina_policy.edits
    with pytest.raises(ValueError, match=r"has no vision tower; choose another image encoder\."):
        lumina_policy.image_features([SQUARE])
    with pytest.raises(NotImplementedError, match="cannot score answers that it did not sample"):
        lumina_policy.score_text([SQUARE], ["what?"], ["a"])
    for ask in (
        lambda text: lumina_policy.sample_text(texts(questions=["a", text, "b"])),
        lambda text: lumina_policy.sample_images(drawings(prompts=[text])),
        lambda text: lumina_policy.sample_edits(edits(instructions=["a", text, "b"])),
    ):
        with pytest.raises(ValueError, match=r"contains the special token </answer>; remove it\."):
            ask("what </answer>?")
    assert lumina_policy.question_faults(["a", "<IMAGE>"], 10).keys() == {"<IMAGE>"}
    with pytest.raises(ValueError, match="2 images came with 3 questions"):
        lumina_policy.sample_text(texts(images=[SQUARE, None]))
    with pytest.raises(ValueError, match="1 images came with 3 instructions"):
        lumina_policy.sample_edits(edits(images=[HIGH]))
    with pytest.raises(ValueError, match="no trajectories"):
        lumina_policy.log_probs([])


def test_an_image_of_any_mode_is_read(lumina_policy):
    grey = Image.new("RGBA", (20, 20), (120, 120, 120, 10))
    assert flat(lumina_policy.sample_text(texts(images=[grey, SQUARE.convert("L"), None])))

"""Questions about several images: against plain ``transformers``, other batchings and a literal gradient."""

from dataclasses import replace

import pytest
import torch

from fake_policy import FakePolicy
from pairuni.config import RolloutSettings
from pairuni.policies.emu3.policy import Emu3Policy
from pairuni.policies.requests import CannotShowSeveral, TextSampling
from tiny_emu3 import tiny_emu3

QUESTIONS = ["why?", "what?", "which differs?", "how many digits are there?"]


@pytest.fixture
def shown(images):
    """No image, one, two and three; the last question repeats one of them."""
    return [(), images[0], [images[1], images[2]], [images[2], images[0], images[2]]]


def plain_inputs(policy, question, images):
    """Ids by the chat template and the processor of ``transformers``, pixels by the preprocessing of the policy."""
    content = [*({"type": "image"} for _ in images), {"type": "text", "text": question}]
    chat = policy.processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    rgb = [[image.convert("RGB") for image in images]] if images else None
    inputs = policy.processor(text=[chat], images=rgb, return_tensors="pt")
    if images:
        inputs["pixel_values"] = policy.pixel_values(images)
    return inputs


def plain_log_probs(policy, trajectory):
    """By one plain forward pass, at temperature 1."""
    prompt = trajectory.prompt_ids
    inputs = {"input_ids": torch.cat([prompt, trajectory.tokens[:-1]])[None]}
    if trajectory.pixel_values:
        inputs["pixel_values"] = torch.stack(trajectory.pixel_values)
    logits = policy.module(**inputs).logits[0, len(prompt) - 1 :]
    return logits.log_softmax(dim=-1).gather(1, trajectory.tokens[:, None]).squeeze(1)


def request(shown, **changes):
    return TextSampling(
        **{"images": shown, "questions": QUESTIONS, "rollouts": 2, "max_new_tokens": 10, "seed": 3} | changes
    )


def test_greedy_answers_equal_transformers(policy, shown):
    groups = policy.sample_text(request(shown, temperature=0.0, rollouts=1, max_new_tokens=16))
    for (answer,), question, images in zip(groups, QUESTIONS, request(shown).shown, strict=True):
        inputs = plain_inputs(policy, question, images)
        assert answer.prompt_ids.tolist() == inputs["input_ids"][0].tolist()
        expected = policy.module.generate(**inputs, do_sample=False, max_new_tokens=16)
        assert answer.tokens.tolist() == expected[0, len(answer.prompt_ids) :].tolist()
        with torch.no_grad():
            torch.testing.assert_close(answer.log_probs, plain_log_probs(policy, answer), atol=1e-4, rtol=0)


def test_each_image_is_framed_and_before_the_question(policy):
    ids = policy.prompts.understanding("why?", images=3).tolist()
    prompts, tokens = policy.prompts, policy.processor.num_image_tokens
    framed = [prompts.begin_image, *[prompts.image] * tokens, prompts.end_image]
    starts = [place for place, token in enumerate(ids) if token == prompts.begin_image]
    assert len(starts) == 3
    assert all(ids[start : start + len(framed)] == framed for start in starts)
    one = policy.prompts.understanding("why?", images=1).tolist()
    assert one == ids[: starts[0]] + ids[starts[2] :]


def test_the_order_of_the_images_counts(policy, images):
    both = [images[:2], images[1::-1]]
    first, second = policy.sample_text(
        TextSampling(images=both, questions=["what?"] * 2, temperature=0.0, max_new_tokens=4)
    )
    assert torch.equal(first[0].prompt_ids, second[0].prompt_ids)
    assert not torch.equal(first[0].log_probs, second[0].log_probs)


def test_replay_equals_sampling(policy, shown):
    trajectories = [one for group in policy.sample_text(request(shown, temperature=0.8)) for one in group]
    scored = policy.log_probs(trajectories)
    for row, one in zip(scored.values.detach(), trajectories, strict=True):
        torch.testing.assert_close(row[: len(one.tokens)], one.log_probs, atol=1e-4, rtol=0)


def test_a_mixture_of_numbers_of_images_changes_no_row(policy, shown):
    together = policy.sample_text(request(shown))
    replayed = iter(policy.log_probs([one for group in together for one in group]).values.detach())
    for index, group in enumerate(together):
        alone = policy.sample_text(
            request(shown[index : index + 1], questions=QUESTIONS[index : index + 1], first_prompt=index)
        )[0]
        for one, other in zip(group, alone, strict=True):
            assert torch.equal(one.tokens, other.tokens)
            torch.testing.assert_close(one.log_probs, other.log_probs, atol=1e-5, rtol=0)
            (row,) = policy.log_probs([one]).values.detach()
            torch.testing.assert_close(next(replayed)[: len(row)], row, atol=1e-5, rtol=0)


def test_the_gradient_is_that_of_plain_forward_passes(fresh_policy, shown):
    policy, model = fresh_policy, fresh_policy.module
    trajectories = [one for group in policy.sample_text(request(shown)) for one in group]
    weights = torch.linspace(-1, 1, len(trajectories))

    def gradients(log_probs):
        model.zero_grad()
        sum(weight * row.sum() for weight, row in zip(weights, log_probs, strict=True)).backward()
        return {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}

    mine = gradients(policy.log_probs(trajectories).values)
    expected = gradients([plain_log_probs(policy, one) for one in trajectories])
    assert mine.keys() == expected.keys()
    assert any("vision_model" in name for name in mine)
    for name, gradient in mine.items():
        torch.testing.assert_close(gradient, expected[name], atol=2e-4, rtol=2e-3, msg=name)


def test_each_image_passes_the_tower_once(policy, shown):
    seen = []
    hook = policy.module.model.vision_model.register_forward_pre_hook(
        lambda _, inputs: seen.append(len(inputs[0]))
    )
    try:
        groups = policy.sample_text(request(shown))
        assert sum(seen) == 3
        policy.log_probs([one for group in groups for one in group])
        assert sum(seen) == 6
    finally:
        hook.remove()


def test_costs_count_every_image(policy, shown):
    groups = policy.sample_text(request(shown))
    (first, second), prompt = groups[3], len(groups[3][0].prompt_ids)
    assert policy.replay_cost([first, second]).tokens == prompt + len(first.tokens) + len(second.tokens) - 2
    other = replace(first, pixel_values=tuple(one.clone() for one in first.pixel_values))
    assert policy.replay_cost([first, other]).tokens == 2 * (prompt + len(first.tokens) - 1)


def test_a_plan_counts_the_images_of_a_question(policy):
    rollout = RolloutSettings(understanding=3, max_new_tokens=5)
    one, three = policy.text_cost(rollout), policy.text_cost(rollout, images=3)
    more = 2 * policy.question_image_tokens
    assert (three.cached - one.cached, three.replayed - one.replayed) == (more, more)
    assert three.keys - one.keys == more * (1 + 3)
    assert (three.sampled, three.steps) == (one.sampled, one.steps)


def test_given_answers_are_scored(policy, images):
    (scored,) = policy.score_text([images[:2]], ["what?"], ["red"])
    tokens = torch.tensor(policy.processor.tokenizer("red", add_special_tokens=False)["input_ids"])
    ((sampled,),) = policy.sample_text(
        TextSampling(images=[images[:2]], questions=["what?"], temperature=0.0, max_new_tokens=1)
    )
    expected = plain_log_probs(policy, replace(sampled, tokens=tokens)).detach()
    torch.testing.assert_close(scored.log_probs, expected, atol=1e-4, rtol=0)


def test_too_many_images_for_the_context_are_a_fault(policy):
    most = policy.context // policy.processor.num_image_tokens
    faults = policy.question_faults(["which differs?"], 8, most + 1)
    assert list(faults) == ["which differs?"]
    assert f"with its {most + 1} images and 8 new tokens" in faults["which differs?"]
    assert "show fewer images" in faults["which differs?"]
    assert policy.question_faults(["which differs?"], 8, 2) == {}


def test_a_template_that_shows_one_image_is_refused(fresh_policy, images):
    policy = fresh_policy
    policy.processor.chat_template = (
        "{% for m in messages %}Q: {% if m['content'] | selectattr('type', 'equalto', 'image') | list %}"
        "<image_placeholder>{% endif %}{{ m['content'][-1]['text'] }} A:{% endfor %}"
    )
    prompts = type(policy.prompts)(policy.processor)
    assert prompts.understanding("why?", images=1).tolist().count(prompts.begin_image) == 1
    with pytest.raises(ValueError, match="shows 1 placeholders for 2 images"):
        prompts.understanding("why?", images=2)


def test_policies_of_one_image_refuse_several_before_sampling(images):
    sentence = "'which differs\\?' shows 2 images, but the policy {} takes one a question"
    several = TextSampling(images=[images[:2]], questions=["which differs?"], max_new_tokens=4)
    emu3 = Emu3Policy(*tiny_emu3())
    with pytest.raises(CannotShowSeveral, match=sentence.format("emu3")):
        emu3.sample_text(several)
    assert (
        emu3.question_faults(["a"], 4, 2)["a"] == "shows 2 images, but the policy emu3 takes one a question"
    )
    assert FakePolicy().question_faults(["a"], 4, 2).keys() == {"a"}
    assert not emu3.question_faults(["a"], 4)


def test_every_question_needs_an_entry(policy, images):
    with pytest.raises(ValueError, match="1 images came with 2 questions"):
        policy.sample_text(TextSampling(images=[images[:2]], questions=["a", "b"], max_new_tokens=1))

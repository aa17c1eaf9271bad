"""The decode loop: draws are exact, rows do not depend on their batch, work is not done twice."""

import pytest
import torch
from scipy.stats import chisquare

from pairuni.policies.decoding import Decoder, Prompt, Sampling, decode, draw, uniforms


def rows_of(module: torch.nn.Module, seen: list[tuple[int, int]]):
    """Record (rows, positions) of every forward pass."""
    return module.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(tuple(kwargs["inputs_embeds"].shape[:2])), with_kwargs=True
    )


def decode_prompts(policy, prompts, sampling, *, seed=0, head=None):
    ids = [policy.prompts.generation(prompt) for prompt in prompts]
    embed = policy.module.get_input_embeddings()
    decoder = Decoder(
        backbone=policy.module.model.language_model,
        head=head or policy.module.model.generation_head,
        embed=policy.module.prepare_embeddings_for_image_generation,
    )

    def embedded(chosen):
        return [
            Prompt(
                conditional=embed(ids[index]), unconditional=embed(policy.prompts.unconditional(ids[index]))
            )
            for index in chosen
        ]

    return decode(decoder, [len(row) for row in ids], embedded, sampling, seed=seed)


def test_draws_follow_the_softmax():
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0, 1.5, -30.0]])
    probabilities = torch.softmax(logits[0], dim=-1)
    noise = uniforms(seed=3, stream=0, prompt=0, rollout=0, steps=40_000)
    drawn = draw(torch.log_softmax(logits, dim=-1).expand(len(noise), -1), noise)
    counts = torch.bincount(drawn, minlength=6)
    assert counts[5] == 0
    expected = probabilities[:5] / probabilities[:5].sum() * len(noise)
    assert chisquare(counts[:5].numpy(), expected.numpy()).pvalue > 1e-3


def test_draws_take_no_token_of_zero_probability():
    log_probs = torch.tensor([[-torch.inf, 0.0, -torch.inf]])
    for noise in (0.0, 0.5, 1 - 2**-53):
        assert draw(log_probs, torch.tensor([noise], dtype=torch.float64)).item() == 1


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_sampled_tokens_follow_the_policy(policy, guidance):
    """First tokens of many rollouts against the softmax that their log-probs claim."""
    sampling = Sampling(
        rollouts=3000, steps=1, temperature=2 * guidance, guidance=guidance, branch="guided", max_rows=6000
    )
    group = decode_prompts(policy, ["a cat"], sampling)[0]
    tokens = torch.stack([rollout.tokens[0] for rollout in group])
    claimed = {int(rollout.tokens[0]): float(rollout.log_probs[0]) for rollout in group}
    frequent = {token: value for token, value in claimed.items() if value > -5}
    counts = [int((tokens == token).sum()) for token in frequent]
    expected = [len(group) * float(torch.tensor(value).exp()) for value in frequent.values()]
    counts.append(len(group) - sum(counts))
    expected.append(len(group) - sum(expected))
    assert len(frequent) >= 3
    assert chisquare(counts, expected).pvalue > 1e-3


@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_tokens_do_not_depend_on_the_batch(policy, prompts, guidance):
    def sample(max_rows, chosen):
        sampling = Sampling(
            rollouts=3, steps=8, temperature=1.0, guidance=guidance, branch="guided", max_rows=max_rows
        )
        return decode_prompts(policy, chosen, sampling, seed=5)

    whole = sample(64, prompts)
    for max_rows in (1, 4, 12):
        for group, other in zip(whole, sample(max_rows, prompts), strict=True):
            for one, two in zip(group, other, strict=True):
                assert torch.equal(one.tokens, two.tokens)
                torch.testing.assert_close(one.log_probs, two.log_probs, atol=1e-4, rtol=0)
    alone = sample(64, prompts[:1])
    assert torch.equal(alone[0][2].tokens, whole[0][2].tokens)


def test_seed_prompt_and_rollout_choose_the_noise():
    same = uniforms(1, 0, 2, 3, 50)
    assert torch.equal(same, uniforms(1, 0, 2, 3, 50))
    assert torch.equal(same[:20], uniforms(1, 0, 2, 3, 20))
    for other in ((2, 0, 2, 3), (1, 1, 2, 3), (1, 0, 3, 3), (1, 0, 2, 4)):
        assert not torch.equal(same, uniforms(*other, 50))


def test_each_distinct_prompt_is_prefilled_once(policy):
    seen: list[tuple[int, int]] = []
    with rows_of(policy.module.model.language_model, seen):
        policy.sample_images(
            ["a cat", "a dog", "a cat"], rollouts=4, temperature=1.0, guidance=5.0, branch="guided", seed=0
        )
    # "a cat" once, "a dog" once, and one unconditional twin for both, which are of one length.
    assert seen[0][0] == 3
    assert seen[1:] == [(24, 1)] * (policy.image_tokens - 1)


def test_guidance_of_one_runs_no_unconditional_rows(policy):
    seen: list[tuple[int, int]] = []
    with rows_of(policy.module.model.language_model, seen):
        policy.sample_images(["a cat"], rollouts=2, temperature=1.0, guidance=1.0, branch="guided", seed=0)
    assert {rows for rows, _ in seen} == {1, 2}


def test_finished_rows_stop_costing(policy, prompts):
    """With a stop token that comes early, rows leave the batch and the loop ends when all are done."""
    head = policy.module.model.generation_head

    def eager_head(states):
        logits = head(states) / 8
        return torch.cat([logits[:, :5], logits[:, 5:6] + 2, logits[:, 6:]], dim=1)

    def sample(max_rows):
        sampling = Sampling(rollouts=4, steps=40, temperature=1.0, stop_id=5, max_rows=max_rows)
        return decode_prompts(policy, prompts, sampling, seed=2, head=eager_head)

    seen: list[tuple[int, int]] = []
    with rows_of(policy.module.model.language_model, seen):
        together = sample(12)
    assert len(seen) < 40
    assert seen[-1][0] < 12
    for group, alone in zip(together, sample(1), strict=True):
        for one, two in zip(group, alone, strict=True):
            assert torch.equal(one.tokens, two.tokens)
            assert one.finished == (int(one.tokens[-1]) == 5)
            assert 5 not in one.tokens[:-1]


@pytest.mark.parametrize(
    ("name", "value"),
    [("rollouts", 0), ("steps", 0), ("temperature", -1.0), ("guidance", float("nan")), ("branch", "both")],
)
def test_impossible_sampling_is_refused(name, value):
    settings = {"rollouts": 1, "steps": 1, "temperature": 1.0, name: value}
    with pytest.raises(ValueError, match=name):
        Sampling(**settings)

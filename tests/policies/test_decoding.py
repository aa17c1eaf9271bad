"""The decode loop: sampling is exact, rows do not depend on their batch, no work is repeated."""

import copy
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from scipy.stats import chisquare
from torch.nn.functional import scaled_dot_product_attention

from pairuni.policies.decoding import loop as decoding
from pairuni.policies.decoding.attention import prefix_suffix_attention
from pairuni.policies.decoding.cache import LayerCache
from pairuni.policies.decoding.chunks import bytes_needed, chunks, share_budget
from pairuni.policies.decoding.loop import DecodeLoop
from pairuni.policies.decoding.requests import Prompt, Request
from pairuni.policies.decoding.sampling import Head, SamplingParams, sample_categorical, uniform_noise
from pairuni.policies.llama import LlamaLayers
from pairuni.policies.requests import ImageSampling


@contextmanager
def rows_of(loop: DecodeLoop, seen: list[int]):
    """Record the tokens of every pass through the layers."""
    original = loop.layers.inference

    def inference(rows):
        forward = original(rows)

        def run(embeds, rotary, attend):
            seen.append(len(embeds))
            return forward(embeds, rotary, attend)

        return run

    loop.layers.inference = inference
    try:
        yield
    finally:
        del loop.layers.inference


def request(policy, prompts, sampling, *, seed=0, head=None) -> Request:
    ids = [policy.prompts.generation(prompt) for prompt in prompts]

    def embedded(chosen):
        return [
            Prompt(
                conditional=policy.inference.inputs.embed_prompt(ids[index]),
                unconditional=policy.inference.inputs.embed_prompt(policy.prompts.unconditional(ids[index])),
            )
            for index in chosen
        ]

    return Request(
        head=head or policy.inference.image_head,
        embed=policy.inference.inputs.embed_codes,
        lengths=[len(row) for row in ids],
        prompts=embedded,
        sampling=sampling,
        seed=seed,
    )


def loop_of(policy, **settings) -> DecodeLoop:
    return DecodeLoop(LlamaLayers(policy.module.model.language_model), **settings)


def decode_prompts(policy, prompts, sampling, *, seed=0, head=None, **settings):
    job = request(policy, prompts, sampling, seed=seed, head=head)
    return loop_of(policy, **settings).run([job])[0]


def head_of(policy, *, scale: float, favoured: int | None = None) -> Head:
    """The policy's head with smaller logits, and a bias of 2 for one token."""
    own = policy.inference.image_head
    project = copy.deepcopy(own.project).requires_grad_(False)
    project.weight.mul_(scale)
    project.bias.mul_(scale)
    if favoured is not None:
        project.bias[favoured] += 2
    return Head(features=own.features, project=project)


def assert_same(groups, others):
    for group, other in zip(groups, others, strict=True):
        for one, two in zip(group, other, strict=True):
            assert torch.equal(one.tokens, two.tokens)
            torch.testing.assert_close(one.log_probs, two.log_probs, atol=1e-4, rtol=0)


def test_samples_follow_the_softmax():
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0, 1.5, -30.0]])
    probabilities = torch.softmax(logits[0], dim=-1)
    noise = uniform_noise(seed=3, stream=0, prompt=0, rollout=0, steps=40_000)
    sampled = sample_categorical(torch.log_softmax(logits, dim=-1).expand(len(noise), -1), noise)
    counts = torch.bincount(sampled, minlength=6)
    assert counts[5] == 0
    expected = probabilities[:5] / probabilities[:5].sum() * len(noise)
    assert chisquare(counts[:5].numpy(), expected.numpy()).pvalue > 1e-3


def test_tokens_of_zero_probability_are_not_sampled():
    log_probs = torch.tensor([[-torch.inf, 0.0, -torch.inf]])
    for noise in (0.0, 0.5, 1 - 2**-53):
        assert sample_categorical(log_probs, torch.tensor([noise], dtype=torch.float64)).item() == 1


def test_rounding_does_not_reach_beyond_the_last_token_that_has_a_probability():
    noise = torch.tensor([1 - 2**-53], dtype=torch.float64)
    for ids in range(2, 400):
        log_probs = torch.full((1, ids + 1), 1.0 / ids).log()
        log_probs[0, -1] = -torch.inf
        assert sample_categorical(log_probs, noise).item() == ids - 1


def test_attention_over_prefix_and_suffix_is_attention_over_both():
    """Two prompts of 5 and 3 tokens with 3 rollouts of 2 tokens; two query heads for each key-value head."""
    draw = torch.Generator().manual_seed(0)
    prefixes, rollouts, heads, width, capacity, dim = 2, 3, 2, 5, 4, 4
    rows, lengths, filled = prefixes * rollouts, [5, 3], 2

    def random(*shape):
        return torch.randn(*shape, generator=draw)

    queries = random(rows, 2 * heads, dim)
    keys, values = random(2, prefixes, heads, width, dim)
    own_keys, own_values = random(2, rows, heads, capacity, dim)
    cache = LayerCache(
        prefix_keys=keys.flatten(0, 1).transpose(1, 2),
        prefix_values=values.flatten(0, 1),
        suffix_keys=own_keys.flatten(0, 1).transpose(1, 2),
        suffix_values=own_values.flatten(0, 1),
        written_keys=own_keys,
        written_values=own_values,
    )
    prefix_mask = torch.zeros(prefixes, heads, width)
    prefix_mask[1, :, 3:] = -torch.inf
    suffix_mask = torch.tensor([0.0, 0.0, -torch.inf, -torch.inf]).view(1, 1, capacity)
    found = prefix_suffix_attention(queries, cache, prefix_mask.view(-1, 1, width), suffix_mask, 0.5)
    for row in range(rows):
        prompt = row // rollouts
        seen, mixed = (
            torch.cat([of_prompt[prompt, :, : lengths[prompt]], own[row, :, :filled]], dim=1)
            for of_prompt, own in ((keys, own_keys), (values, own_values))
        )
        expected = scaled_dot_product_attention(
            queries[row, :, None], seen, mixed, scale=0.5, enable_gqa=True
        )
        torch.testing.assert_close(found[row], expected[:, 0])


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_sampled_tokens_follow_the_policy(policy, guidance):
    """First tokens of many rollouts against the softmax that their log-probs claim."""
    sampling = SamplingParams(
        rollouts=3000, steps=1, temperature=2 * guidance, guidance=guidance, branch="guided"
    )
    group = decode_prompts(policy, ["a cat"], sampling, max_rows=6000)[0]
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
    sampling = SamplingParams(rollouts=3, steps=8, temperature=1.0, guidance=guidance, branch="guided")
    expected = decode_prompts(policy, prompts, sampling, seed=5)
    for max_rows in (1, 4, 12):
        assert_same(expected, decode_prompts(policy, prompts, sampling, seed=5, max_rows=max_rows))
    token = LlamaLayers(policy.module.model.language_model).token_bytes
    for budget in (1, 300 * token, 1000 * token):
        assert_same(expected, decode_prompts(policy, prompts, sampling, seed=5, memory_budget=budget))
    alone = decode_prompts(policy, prompts[:1], sampling, seed=5)
    assert torch.equal(alone[0][2].tokens, expected[0][2].tokens)


@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_static_steps_change_nothing(policy, prompts, guidance):
    """A GPU captures steps that read their position from a tensor."""
    sampling = SamplingParams(rollouts=3, steps=40, temperature=1.0, guidance=guidance, branch="guided")
    counted = decode_prompts(policy, prompts, sampling, seed=5, static=True)
    assert_same(decode_prompts(policy, prompts, sampling, seed=5, static=False), counted)


def test_a_loop_reuses_its_memory(policy, prompts):
    loop = loop_of(policy)
    large = request(
        policy, prompts, SamplingParams(rollouts=4, steps=20, temperature=1.0, guidance=3.0), seed=1
    )
    small = request(policy, prompts[:1], SamplingParams(rollouts=2, steps=8, temperature=1.0), seed=2)
    first = loop.run([large])[0]
    (workspace,) = loop._workspaces.values()
    place = workspace.bytes.data_ptr()
    loop.run([small])
    assert_same(first, loop.run([large])[0])
    assert list(loop._workspaces.values()) == [workspace]
    assert workspace.bytes.data_ptr() == place


def test_a_stream_keeps_its_workspace(policy, prompts):
    loop = loop_of(policy)
    images = request(policy, prompts, SamplingParams(rollouts=4, steps=20, temperature=1.0), seed=1)
    answers = replace(images, stream=7, sampling=SamplingParams(rollouts=2, steps=5, temperature=1.0))
    loop.run([images])
    (workspace,) = loop._workspaces.values()
    loop.run([answers, images])
    assert len(loop._workspaces) == 2
    loop.run([images, images])
    assert len(loop._workspaces) == 3
    assert next(iter(loop._workspaces.values())) is workspace


def test_memory_beyond_the_limit_is_freed(policy, prompts, monkeypatch):
    loop = loop_of(policy)
    job = request(policy, prompts, SamplingParams(rollouts=4, steps=20, temperature=1.0), seed=1)
    first = loop.run([job])
    size = sum(len(workspace.bytes) for workspace in loop._workspaces.values())
    monkeypatch.setattr(decoding, "kept_bytes", lambda device: size)
    assert_same(first[0], loop.run([job])[0])
    assert loop._workspaces
    monkeypatch.setattr(decoding, "kept_bytes", lambda device: size - 1)
    assert_same(first[0], loop.run([job])[0])
    assert not loop._workspaces
    assert_same(first[0], loop.run([job])[0])


def test_a_budget_is_divided_by_need():
    assert share_budget([10, 20], 100) == [10, 20]
    assert share_budget([70, 10, 90], 100) == [45, 10, 45]
    assert share_budget([90, 80], 100) == [50, 50]
    assert share_budget([], 100) == []


@pytest.mark.parametrize("max_rows", [1, 7, 24, 1000])
def test_bytes_needed_are_those_of_the_largest_chunk(policy, prompts, max_rows):
    job = request(
        policy, prompts, SamplingParams(rollouts=3, steps=20, temperature=1.0, guidance=4.0), seed=1
    )
    layers = LlamaLayers(policy.module.model.language_model)
    free = chunks(job, 1 << 40, max_rows, layers)
    need = bytes_needed(job, max_rows, layers)
    assert chunks(job, need, max_rows, layers) == free
    if len(free[0][0]) > 1:
        assert chunks(job, need - 1, max_rows, layers) != free


def test_joint_decoding_equals_separate_decoding(policy, prompts):
    """Images and answers of different lengths, guidance and stops, in several chunks."""
    images = request(
        policy,
        prompts,
        SamplingParams(rollouts=3, steps=30, temperature=1.0, guidance=4.0, branch="guided"),
        seed=1,
    )
    answers = request(
        policy,
        [*prompts, "why"],
        SamplingParams(rollouts=4, steps=25, temperature=1.0, stop_ids=(5,)),
        seed=2,
        head=head_of(policy, scale=1 / 4),
    )
    for settings in ({}, {"max_rows": 6}, {"static": True}):
        together = loop_of(policy, **settings).run([answers, images])
        assert_same(together[0], loop_of(policy).run([answers])[0])
        assert_same(together[1], loop_of(policy).run([images])[0])


def test_requests_share_their_steps(policy, prompts):
    images = request(policy, prompts, SamplingParams(rollouts=2, steps=12, temperature=1.0, guidance=4.0))
    answers = request(policy, prompts, SamplingParams(rollouts=2, steps=6, temperature=1.0))
    loop = loop_of(policy)
    seen: list[int] = []
    with rows_of(loop, seen):
        loop.run([answers, images])
    assert seen[2:] == [6 + 12] * 5 + [12] * 6


def test_chunks_cover_everything_once_within_the_budget(policy):
    layers = LlamaLayers(policy.module.model.language_model)
    sampling = SamplingParams(rollouts=5, steps=33, temperature=1.0, guidance=2.0)
    job = Request(
        head=policy.inference.text_head,
        embed=policy.inference.inputs.embed_text,
        lengths=[30, 4, 17, 60, 5, 8, 9],
        prompts=list,
        sampling=sampling,
        seed=0,
    )
    row, prefix = 2 * 32 * layers.token_bytes, 2 * 64 * layers.token_bytes
    for memory in (1, prefix + 2 * row, 2 * (prefix + 5 * row), 10**9):
        for max_rows in (1, 8, 25, 1000):
            cut = chunks(job, memory, max_rows, layers)
            rows = [
                (prompt, rollout) for prompts, rollouts in cut for prompt in prompts for rollout in rollouts
            ]
            assert sorted(rows) == [(prompt, rollout) for prompt in range(7) for rollout in range(5)]
            for prompts, rollouts in cut:
                held = len(prompts) * (prefix + len(rollouts) * row)
                assert held <= memory or (len(prompts), len(rollouts)) == (1, 1)
                assert 2 * len(prompts) * len(rollouts) <= max(max_rows, 2)


def test_noise_depends_on_seed_stream_prompt_and_rollout():
    same = uniform_noise(1, 0, 2, 3, 50)
    assert torch.equal(same, uniform_noise(1, 0, 2, 3, 50))
    assert torch.equal(same[:20], uniform_noise(1, 0, 2, 3, 20))
    for other in ((2, 0, 2, 3), (1, 1, 2, 3), (1, 0, 3, 3), (1, 0, 2, 4)):
        assert not torch.equal(same, uniform_noise(*other, 50))


def test_each_distinct_prompt_is_prefilled_once(policy):
    seen: list[int] = []
    with rows_of(policy.loop, seen):
        policy.sample_images(ImageSampling(prompts=["a cat", "a dog", "a cat"], rollouts=4, guidance=5.0))
    length = len(policy.prompts.generation("a cat"))
    # "a cat" once, "a dog" once, and one unconditional masked for both, which are of one length.
    assert seen == [3 * length] + [24] * (policy.image_tokens - 1)


def test_guidance_of_one_runs_no_unconditional_rows(policy):
    seen: list[int] = []
    with rows_of(policy.loop, seen):
        policy.sample_images(ImageSampling(prompts=["a cat"], rollouts=2, guidance=1.0))
    assert set(seen[1:]) == {2}


@pytest.mark.parametrize(("static", "last"), [(False, 6), (True, 8)])
def test_finished_rows_leave_the_batch(policy, prompts, static, last):
    """With an early stop token the batch shrinks, and the loop ends when all rows are done."""
    sampling = SamplingParams(rollouts=4, steps=40, temperature=1.0, stop_ids=(5,))
    job = request(policy, prompts, sampling, seed=2, head=head_of(policy, scale=1 / 8, favoured=5))
    loop = loop_of(policy, static=static)
    seen: list[int] = []
    with rows_of(loop, seen):
        together = loop.run([job])[0]
    assert len(seen) < 40
    assert seen[1] == 12
    assert seen[-1] < last
    assert_same(together, loop_of(policy, max_rows=1).run([job])[0])
    for rollout in (one for group in together for one in group):
        assert rollout.finished == (int(rollout.tokens[-1]) == 5)
        assert 5 not in rollout.tokens[:-1]


@pytest.mark.parametrize(
    ("name", "value"),
    [("rollouts", 0), ("steps", 0), ("temperature", -1.0), ("guidance", float("nan")), ("branch", "both")],
)
def test_impossible_sampling_is_refused(name, value):
    settings = {"rollouts": 1, "steps": 1, "temperature": 1.0, name: value}
    with pytest.raises(ValueError, match=name):
        SamplingParams(**settings)

"""Top-k and top-p: the tokens that they keep, what is sampled, and its replay."""

import math

import pytest
import torch
from PIL import Image
from scipy.stats import chisquare
from test_decoding import decode_prompts
from transformers import TopKLogitsWarper, TopPLogitsWarper

from pairuni.policies.decoding.batch import DecodeBatch
from pairuni.policies.decoding.chunks import bytes_needed
from pairuni.policies.decoding.loop import DecodeLoop
from pairuni.policies.decoding.requests import Request
from pairuni.policies.decoding.sampling import Head, SamplingParams, sample_tokens, uniform_noise
from pairuni.policies.decoding.truncation import kept_tokens, pack, packed_size, renormalised, unpack
from pairuni.policies.llama import LlamaLayers
from pairuni.policies.requests import ImageSampling, TextSampling

TOLERANCE = {"atol": 1e-4, "rtol": 0}
CHOICES = [(0, 0.9), (0, 0.3), (0, 1e-6), (5, 1.0), (1, 1.0), (12, 0.7), (500, 0.95)]


def literal(probs: list[float], top_k: int, top_p: float) -> set[int]:
    """The definition, token by token, for probabilities without ties."""
    ranked = sorted(range(len(probs)), key=lambda token: -probs[token])
    if top_k:
        ranked = ranked[:top_k]
    total, chosen = math.fsum(probs[token] for token in ranked), []
    for token in ranked:
        chosen.append(token)
        if math.fsum(probs[one] for one in chosen) >= top_p * total:
            break
    return set(chosen)


@pytest.mark.parametrize(("top_k", "top_p"), CHOICES)
def test_kept_tokens_are_those_of_the_definition_and_of_transformers(top_k, top_p):
    draw = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(20, 100, generator=draw)
    kept = kept_tokens(logits.log_softmax(dim=-1), top_k, top_p)
    probs = logits.double().softmax(dim=-1)
    for row in range(len(logits)):
        assert set(kept[row].nonzero().flatten().tolist()) == literal(probs[row].tolist(), top_k, top_p)
    theirs = TopKLogitsWarper(top_k)(None, logits) if top_k else logits
    if top_p < 1.0:
        theirs = TopPLogitsWarper(top_p)(None, theirs)
    assert torch.equal(kept, theirs > -torch.inf)
    torch.testing.assert_close(
        renormalised(logits.log_softmax(dim=-1), kept).exp(), torch.softmax(theirs, dim=-1)
    )


def test_tokens_as_probable_as_the_last_one_are_kept_too():
    log_probs = torch.tensor([[0.1, 0.3, 0.1, 0.3, 0.1, 0.1]]).log()
    assert kept_tokens(log_probs, 1, 1.0)[0].tolist() == [False, True, False, True, False, False]
    assert kept_tokens(log_probs, 3, 1.0).all()
    assert kept_tokens(log_probs, 0, 0.5)[0].tolist() == [False, True, False, True, False, False]
    assert kept_tokens(log_probs, 0, 0.65).all()


@pytest.mark.parametrize("count", [1, 7, 8, 9, 100, 16384])
def test_flags_survive_packing(count):
    flags = torch.rand(5, count, generator=torch.Generator().manual_seed(count)) < 0.4
    packed = pack(flags)
    assert (packed.shape, packed.dtype) == ((5, packed_size(count)), torch.uint8)
    assert torch.equal(unpack(packed, count), flags)


@pytest.mark.parametrize("branch", ["guided", "conditional"])
def test_draws_follow_the_truncated_softmax(branch):
    """And with the conditional branch, log-probs are its own on the tokens that the guided branch kept."""
    torch.manual_seed(2)
    head = Head(features=torch.nn.Identity(), project=torch.nn.Linear(6, 30).requires_grad_(False))
    states = 3 * torch.randn(2, 6)
    sampling = SamplingParams(
        rollouts=20_000, steps=1, temperature=0.8, top_k=12, top_p=0.9, guidance=1.5, branch=branch
    )
    noise = uniform_noise(seed=0, stream=0, prompt=0, rollout=0, steps=sampling.rollouts)
    chosen, scores, kept = sample_tokens(head, states, noise, sampling)
    conditional, unconditional = (head.project(row).double() for row in states)
    guided = ((unconditional + 1.5 * (conditional - unconditional)) / 0.8).softmax(dim=-1)
    allowed = sorted(literal(guided.tolist(), 12, 0.9))
    assert 3 < len(allowed) < 12
    (flags,) = unpack(kept, 30).unique(dim=0)
    assert flags.nonzero().flatten().tolist() == allowed
    counts = torch.bincount(chosen, minlength=30)
    assert counts.sum() == counts[allowed].sum() == sampling.rollouts
    expected = guided[allowed] / guided[allowed].sum()
    assert chisquare(counts[allowed].numpy(), (expected * sampling.rollouts).numpy()).pvalue > 1e-3
    scored = guided if branch == "guided" else (conditional / 0.8).softmax(dim=-1)
    log_probs = torch.full((30,), -torch.inf, dtype=torch.float64)
    log_probs[allowed] = (scored[allowed] / scored[allowed].sum()).log()
    torch.testing.assert_close(scores.double(), log_probs[chosen], atol=1e-5, rtol=0)


def requests(images, prompts, *, branch="guided", **truncation):
    texts = TextSampling(
        images=[*images[:2], None],
        questions=["what?", "how many digits are there?", "no image here"],
        rollouts=3,
        max_new_tokens=14,
        seed=1,
        **truncation,
    )
    drawn = ImageSampling(prompts=prompts, rollouts=3, guidance=3.0, branch=branch, seed=2, **truncation)
    return texts, drawn


def flat(sampled):
    return [one for groups in sampled for group in groups for one in group]


@pytest.mark.parametrize("truncation", [{"top_k": 4}, {"top_p": 0.6}, {"top_k": 9, "top_p": 0.5}], ids=str)
@pytest.mark.parametrize("branch", ["guided", "conditional"])
def test_replay_equals_sampling(policy, images, prompts, truncation, branch):
    """In one batch with trajectories of all tokens."""
    sampled = flat(policy.sample(*requests(images, prompts, branch=branch, **truncation)))
    others = flat(policy.sample(*requests(images, prompts)))
    mixed = [one for pair in zip(sampled, others, strict=True) for one in pair]
    for one, values in zip(mixed, policy.log_probs(mixed).values, strict=True):
        torch.testing.assert_close(values[: len(one.tokens)].detach(), one.log_probs, **TOLERANCE)
    assert all(one.kept is None for one in others)
    for one in sampled:
        flags = unpack(one.kept, 8 * one.kept.shape[1])
        assert flags.gather(1, one.tokens[:, None]).all()
        if "top_p" not in truncation:
            assert (flags.sum(dim=1) == 4).all()


def test_after_an_update_the_kept_tokens_are_still_those_of_sampling(fresh_policy, images, prompts):
    """So no ratio jumps where a token crosses the border; the distribution over them is that of the new weights."""
    sampled = flat(fresh_policy.sample(*requests(images, prompts, branch="conditional", top_p=0.5)))
    with torch.no_grad():
        for parameter in fresh_policy.module.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    before = torch.cat([one.log_probs for one in sampled])
    found = fresh_policy.log_probs(sampled)
    after = found.values[found.mask.bool()].detach()
    assert torch.isfinite(after).all()
    assert (after - before).abs().max() > 0.01
    single = torch.cat([unpack(one.kept, 8 * one.kept.shape[1]).sum(dim=1) == 1 for one in sampled])
    assert single.any()
    # a token without an alternative has probability 1 under any weights
    assert (after[single] == 0).all()


def test_a_greedy_choice_is_scored_among_all_tokens(policy, prompts):
    plain = ImageSampling(prompts=prompts, guidance=3.0, temperature=0.0)
    truncated = ImageSampling(prompts=prompts, guidance=3.0, temperature=0.0, top_k=2)
    for one, other in zip(
        *(flat([policy.sample_images(request)]) for request in (plain, truncated)), strict=True
    ):
        assert torch.equal(one.tokens, other.tokens)
        assert torch.equal(one.log_probs, other.log_probs)
        assert other.kept is None


@pytest.mark.parametrize("settings", [{"max_rows": 5}, {"memory_budget": 1}, {"static": True}], ids=str)
def test_kept_tokens_do_not_depend_on_the_batch(policy, images, prompts, settings):
    asked = requests([Image.radial_gradient("L"), *images], prompts, top_p=0.7)
    together = flat(policy.sample(*asked))
    loop = policy.loop
    try:
        policy.loop = DecodeLoop(LlamaLayers(policy.module.model.language_model), **settings)
        apart = flat(policy.sample(*asked))
    finally:
        policy.loop = loop
    for one, other in zip(together, apart, strict=True):
        assert torch.equal(one.tokens, other.tokens)
        assert torch.equal(one.kept, other.kept)


def test_kept_tokens_stay_with_their_rollout_when_others_leave_the_batch(policy, prompts, monkeypatch):
    left = []
    compact = DecodeBatch._compact
    monkeypatch.setattr(
        DecodeBatch, "_compact", lambda batch, *rest: (left.append(batch), compact(batch, *rest))[1]
    )
    codes = len(policy.inference.image_head.project.weight)
    sampling = SamplingParams(
        rollouts=6, steps=16, temperature=1.0, top_k=codes // 2, stop_ids=tuple(range(0, codes, 3))
    )
    together = decode_prompts(policy, prompts, sampling)
    assert left
    lengths = set()
    for group, other in zip(together, decode_prompts(policy, prompts, sampling, max_rows=1), strict=True):
        for one, two in zip(group, other, strict=True):
            assert torch.equal(one.tokens, two.tokens)
            assert torch.equal(one.kept, two.kept)
            assert len(one.kept) == len(one.tokens)
            lengths.add(len(one.tokens))
    assert len(lengths) > 3


def test_memory_of_a_batch_counts_the_kept_tokens(policy):
    head = policy.inference.image_head

    def needed(**truncation) -> int:
        sampling = SamplingParams(rollouts=3, steps=16, temperature=1.0, **truncation)
        job = Request(
            head=head,
            embed=policy.inference.inputs.embed_codes,
            lengths=[5],
            prompts=list,
            sampling=sampling,
            seed=0,
        )
        return bytes_needed(job, 64, policy.inference.layers)

    assert needed(top_p=0.9) - needed() == 3 * 16 * packed_size(len(head.project.weight))


@pytest.mark.parametrize(
    ("values", "said"),
    [({"top_k": -1}, "top_k is -1"), ({"top_p": 0.0}, r"top_p is 0\.0"), ({"top_p": 1.5}, r"top_p is 1\.5")],
)
def test_impossible_values_are_named(values, said):
    with pytest.raises(ValueError, match=said):
        SamplingParams(rollouts=1, steps=1, temperature=1.0, **values)

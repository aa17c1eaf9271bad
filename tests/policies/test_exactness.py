"""Batching does not change the tokens of the shipped model, except for ties within rounding."""

import pytest
import torch
from PIL import Image

from pairuni.policies.decoding.loop import DecodeLoop
from pairuni.policies.llama import LlamaLayers
from pairuni.policies.registry import load_policy
from pairuni.policies.requests import ImageSampling, TextSampling

PROMPTS = [
    f"a {colour} {digit}{place}"
    for colour in ("red", "green", "blue", "yellow")
    for digit in ("one", "four", "seven")
    for place in ("", " at the top left", " to the left of a two")
]
QUESTIONS = ["which digit is red?", "how many digits are there?", "what is the sum of the digits?"]


@pytest.fixture(scope="module")
def policy():
    return load_policy("tiny", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def requests(policy):
    shown = [Image.radial_gradient("L"), Image.linear_gradient("L"), Image.new("RGB", (32, 32), "black")]
    texts = TextSampling(
        images=[image for image in shown for _ in QUESTIONS],
        questions=QUESTIONS * len(shown),
        rollouts=8,
        max_new_tokens=24,
        seed=3,
    )
    images = ImageSampling(prompts=PROMPTS, rollouts=8, guidance=2.0, seed=4)
    return texts, images


@pytest.fixture(scope="module")
def together(policy, requests):
    return policy.sample(*requests)


def trajectories(sampled):
    return [trajectory for groups in sampled for group in groups for trajectory in group]


@pytest.mark.parametrize("how", ["apart", "few rows", "little memory", "counted on the device"])
def test_tokens_do_not_depend_on_how_they_were_batched(policy, requests, together, how):
    layers = LlamaLayers(policy.module.model.language_model)
    loop = policy.loop
    settings = {
        "apart": {},
        "few rows": {"max_rows": 20},
        "little memory": {"memory_budget": 3000 * layers.token_bytes},
        "counted on the device": {"static": True},
    }[how]
    try:
        policy.loop = DecodeLoop(layers, **settings)
        if how == "apart":
            again = policy.sample_text(requests[0]), policy.sample_images(requests[1])
        else:
            again = policy.sample(*requests)
    finally:
        policy.loop = loop
    one, two = trajectories(together), trajectories(again)
    tokens = sum(len(trajectory.tokens) for trajectory in one)
    assert tokens > 4500
    # all tokens after a tie differ, so each trajectory counts once
    parted = sum(not torch.equal(a.tokens, b.tokens) for a, b in zip(one, two, strict=True))
    assert parted <= tokens / 10_000
    for a, b in zip(one, two, strict=True):
        if torch.equal(a.tokens, b.tokens):
            torch.testing.assert_close(a.log_probs, b.log_probs, atol=1e-4, rtol=0)


def test_log_probs_of_decoding_and_of_the_update_agree(policy, together):
    chosen = trajectories(together)
    with torch.no_grad():
        scored = policy.log_probs(chosen)
    for trajectory, values in zip(chosen, scored.values, strict=True):
        torch.testing.assert_close(values[: len(trajectory.tokens)], trajectory.log_probs, atol=1e-4, rtol=0)

"""The baselines do the same work as we do: equal greedy tokens, equal log-probs."""

import pytest
import torch

from benchmarks import update
from benchmarks.baselines import (
    UPDATE_STEPS,
    image_forward,
    peers_rollout,
    text_forward,
    transformers_rollout,
)
from benchmarks.settings import UpdateBenchSettings
from benchmarks.shapes import Shape, random_policy
from benchmarks.workload import random_trajectories
from pairuni.policies.requests import ImageSampling

SMALL = Shape(
    hidden=32,
    layers=2,
    heads=4,
    feed_forward=48,
    vocabulary=320,
    positions=512,
    vision_hidden=24,
    vision_layers=2,
    vision_heads=2,
    image_size=32,
    patch_size=8,
    codes=24,
    vq_channels=32,
    vq_multipliers=(1, 1, 1, 1),
    vq_latent=32,
    vq_blocks=1,
)
PROMPTS = ["a red seven", "three sixes and a blue two", "a cat"]


@pytest.fixture(scope="module")
def policy():
    return random_policy(SMALL, name="small", device=torch.device("cpu"), dtype=torch.float32, std=0.3)


@pytest.fixture(scope="module")
def greedy(policy):
    groups = policy.sample_images(ImageSampling(prompts=PROMPTS, temperature=0.0, guidance=5.0))
    return torch.stack([group[0].tokens for group in groups])


def test_transformers_draws_our_greedy_tokens(policy, greedy):
    drawn = transformers_rollout(policy, PROMPTS, rollouts=1, temperature=0.0, guidance=5.0)
    assert torch.equal(drawn, greedy)
    assert len(greedy.unique()) > 4


def test_the_peers_loop_draws_our_greedy_tokens(policy, greedy):
    together = peers_rollout(policy, PROMPTS, rollouts=2, temperature=0.0, guidance=5.0)
    assert torch.equal(together, greedy.repeat_interleave(2, dim=0))
    for prompt, tokens in zip(PROMPTS, greedy, strict=True):
        alone = peers_rollout(policy, [prompt], rollouts=2, temperature=0.0, guidance=5.0)
        assert torch.equal(alone, tokens.expand(2, -1))


@pytest.mark.parametrize("roll", [transformers_rollout, peers_rollout])
def test_baselines_sample_every_image_that_is_requested(policy, roll):
    torch.manual_seed(0)
    tokens = roll(policy, PROMPTS, rollouts=3, temperature=1.0, guidance=5.0)
    assert tokens.shape == (9, policy.image_tokens)
    assert len({tuple(row.tolist()) for row in tokens}) == 9


def settings(branch):
    return UpdateBenchSettings(prompts=3, rollouts=2, answer_tokens=7, branch=branch)


@pytest.mark.parametrize("steps", range(len(UPDATE_STEPS) + 1))
@pytest.mark.parametrize("branch", ["guided", "conditional"])
def test_two_forwards_give_our_log_probs(policy, branch, steps):
    answers, images = random_trajectories(policy, settings(branch))
    given = UPDATE_STEPS[:steps]
    for ours, theirs in (
        (policy.log_probs(answers), text_forward(policy, answers, given=given)),
        (policy.log_probs(images), image_forward(policy, images, given=given)),
    ):
        assert ours.values.abs().max() > 1
        torch.testing.assert_close(theirs.values, ours.values, atol=1e-4, rtol=0)
        assert torch.equal(theirs.mask.bool(), ours.mask.bool())


@pytest.mark.parametrize("branch", ["guided", "conditional"])
def test_every_update_leaves_the_same_gradient(policy, branch):
    """The complete contenders: passes, loss and backward."""
    updates = update.contenders(policy, settings(branch))
    weight = policy.module.model.language_model.layers[0].mlp.up_proj.weight
    gradients = {}
    for name, run in updates.items():
        run(0)
        gradients[name] = weight.grad.clone()
    policy.module.requires_grad_(True)
    assert set(updates) == set(update.ADDS)
    ours = gradients["pairuni"]
    assert ours.abs().max() > 0
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, ours, atol=1e-4 * float(ours.abs().max()), rtol=1e-3, msg=name)

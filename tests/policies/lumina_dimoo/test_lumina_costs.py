"""What plans and micro-batches assume of Lumina-DiMOO's rollouts, against rollouts whose tokens are counted."""

import pytest
import torch
from lumina_requests import SQUARE, flat, rollouts

from pair_batches import run_settings
from pairuni.config import LuminaDimooSettings, RolloutSettings
from pairuni.pairgrpo.plan import plan_run
from pairuni.policies.costs import PROMPT_TOKENS
from pairuni.policies.lumina_dimoo.packing import PackedRows
from pairuni.policies.registry import load_policy
from pairuni.policies.requests import ImageSampling, TextSampling

pytest.importorskip("diffusers")

ESTIMATORS = [{}, {"shrink": 2}, {"estimator": "elbo", "elbo_pairs": 2}]


@pytest.fixture
def packed(monkeypatch):
    """Tokens of each pass."""
    found = []

    def counting(lengths):
        found.append(sum(lengths))
        return PackedRows(lengths)

    monkeypatch.setattr("pairuni.policies.lumina_dimoo.model.PackedRows", counting)
    return found


@pytest.fixture(params=ESTIMATORS, ids=str)
def policy(whole_folder, request):
    """Its weights are small, so that rollouts differ from the first step on."""
    settings = LuminaDimooSettings(model=str(whole_folder), type="lumina_dimoo", **request.param)
    policy = load_policy(whole_folder, device="cpu", settings=settings)
    with torch.no_grad():
        policy.module.lm_head.weight.mul_(0.1)
    return policy


def test_the_cost_of_a_replay(policy, packed):
    trajectories = rollouts(policy)
    for some in (trajectories, trajectories[:1], trajectories[3:9], trajectories[-2:]):
        packed.clear()
        policy.log_probs(some)
        cost = policy.replay_cost(some)
        assert packed == [cost.tokens] == [cost.keys]


def test_the_costs_of_rollouts(policy, packed):
    """Of the assumed length of prompts: a token is a byte."""
    rollout = RolloutSettings(understanding=3, generation=2, guidance=2.0, max_new_tokens=9)
    words = "x" * PROMPT_TOKENS
    text, image = policy.text_cost(rollout), policy.image_cost(rollout)
    assert text.steps == 5
    # with this seed no answer ends early, and no mask is empty
    asked = TextSampling(images=[SQUARE], questions=[words], rollouts=3, max_new_tokens=9, seed=2)
    drawn = ImageSampling(prompts=[words], rollouts=2, guidance=2.0)
    for cost, sample in (
        (text, lambda: policy.sample_text(asked)),
        (image, lambda: policy.sample_images(drawn)),
    ):
        packed.clear()
        trajectories = flat(sample())
        passes = packed[: cost.steps]
        assert sum(passes) == cost.computed
        assert (cost.rows, cost.cached) == (len(trajectories), 0)
        assert cost.sampled == sum(one.sampled_tokens for one in trajectories)
        assert cost.replayed == cost.keys == policy.replay_cost(trajectories).tokens
        assert cost.largest == policy.replay_cost(trajectories[:1]).tokens
        # the estimator scores what was sampled
        assert sum(packed) - sum(passes) == (cost.replayed if trajectories[0].decisions == 1 else 0)


def test_the_cost_of_unguided_and_conditional_images(lumina_policy, packed):
    changes = {"generation": 2, "max_new_tokens": 4}
    for guidance, branch in ((1.0, "guided"), (2.0, "conditional")):
        rollout = RolloutSettings(guidance=guidance, branch=branch, **changes)
        request = ImageSampling(prompts=["x" * PROMPT_TOKENS], rollouts=2, guidance=guidance, branch=branch)
        cost = lumina_policy.image_cost(rollout)
        packed.clear()
        trajectories = flat(lumina_policy.sample_images(request))
        assert sum(packed) == cost.computed
        assert lumina_policy.replay_cost(trajectories).tokens == cost.replayed


def test_the_plan_counts_the_image_tokenizer_and_passes_of_whole_trajectories(policy):
    settings = run_settings(
        policy={"model": "tiny", "type": "lumina_dimoo", "trainable": ["language_model"]},
        rollout={"understanding": 2, "generation": 2, "guidance": 2.0, "max_new_tokens": 9},
        pairgrpo={"pairs_per_batch": 2, "micro_batch_tokens": 1},
    )
    planned = plan_run(settings, policy, torch.float32)
    vq = sum(one.nbytes for one in policy.checkpoint.vq.model.parameters())
    assert planned.weights == 4 * planned.parameters + vq
    costs = policy.text_cost(settings.rollout), policy.image_cost(settings.rollout)
    assert planned.micro_batch_tokens == max(one.largest for one in costs) > 1

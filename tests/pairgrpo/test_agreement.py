from pathlib import Path

import pytest
import torch

from fake_policy import FakePolicy
from pair_batches import REWARDS, ROLLOUT, Constant, grpo, make_pairs
from pairuni.pairgrpo.agreement import gradient_agreement, task_gradient
from pairuni.pairgrpo.micro_batches import micro_batches
from pairuni.pairgrpo.rollout import Rewards, rollout_batch


def test_cosine_of_the_two_gradients(tmp_path: Path) -> None:
    policy = FakePolicy(torch.float64)
    parameters = policy.train_only(["language_model"])
    batch = rollout_batch(policy, make_pairs(tmp_path), ROLLOUT, REWARDS, seed=1, image_folder=tmp_path)
    flat = {}
    for task in ("understanding", "generation"):
        policy.module.zero_grad()
        for part in micro_batches(batch, grpo(), [task]):  # type: ignore[list-item]
            part.loss(policy, grpo()).backward()
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for _, p in parameters]
        flat[task] = torch.cat([gradient.flatten() for gradient in gradients])
    policy.module.zero_grad()
    expected = torch.nn.functional.cosine_similarity(flat["understanding"], flat["generation"], dim=0)
    settings = grpo(micro_batch_tokens=20, beta=0.5, generation_weight=0.25)
    agreement = gradient_agreement(policy, batch, parameters, settings)
    assert agreement == pytest.approx(float(expected), rel=1e-5)
    assert abs(agreement) > 1e-3
    assert all(parameter.grad is None for _, parameter in parameters)
    same = task_gradient(policy, batch, parameters, settings, "understanding")
    assert torch.cat([g.flatten() for g in same]) == pytest.approx(flat["understanding"].float(), rel=1e-4)


def test_zero_variance_groups_give_nan(tmp_path: Path) -> None:
    policy = FakePolicy()
    rewards = Rewards(understanding=Constant(), generation=REWARDS.generation)
    batch = rollout_batch(policy, make_pairs(tmp_path), ROLLOUT, rewards, seed=1, image_folder=tmp_path)
    agreement = gradient_agreement(policy, batch, policy.train_only(["aligner"]), grpo())
    assert agreement != agreement  # nan

from pathlib import Path

import pytest
import torch

from fake_policy import FakePolicy
from pair_batches import REWARDS, ROLLOUT, Constant, grpo, make_pairs
from pairuni.pairgrpo.agreement import gradient_agreement, task_gradient
from pairuni.pairgrpo.micro_batches import micro_batches
from pairuni.pairgrpo.rollout import Rewards, rollout_batch
from pairuni.records import TASKS
from reference.pairgrpo_equations import Side, task_objective, weight


def test_cosine_of_the_two_gradients(tmp_path: Path) -> None:
    policy = FakePolicy(torch.float64)
    parameters = policy.train_only(["language_model"])
    batch = rollout_batch(policy, make_pairs(tmp_path), ROLLOUT, REWARDS, seed=1, image_folder=tmp_path)
    flat = {}
    for task in ("understanding", "generation"):
        policy.module.zero_grad()
        for part in micro_batches(policy, batch, grpo(), [task]):  # type: ignore[list-item]
            part.loss(policy, grpo()).backward()
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for _, p in parameters]
        flat[task] = torch.cat([gradient.flatten() for gradient in gradients])
    policy.module.zero_grad()
    expected = torch.nn.functional.cosine_similarity(flat["understanding"], flat["generation"], dim=0)
    settings = grpo(micro_batch_tokens=20, beta=0.5, generation_weight=0.25)
    found = gradient_agreement(policy, batch, parameters, settings)
    agreement = found["gradient_agreement"]
    # one task alone trains each of the two tables
    assert set(found) == {"gradient_agreement", "gradient_agreement/shared"}
    assert agreement == pytest.approx(float(expected), rel=1e-5)
    assert abs(agreement) > 1e-3
    assert all(parameter.grad is None for _, parameter in parameters)
    same = task_gradient(policy, batch, parameters, settings, "understanding")
    assert torch.cat([g.flatten() for g in same]) == pytest.approx(flat["understanding"].float(), rel=1e-4)


def test_zero_variance_groups_have_no_agreement(tmp_path: Path) -> None:
    policy = FakePolicy()
    rewards = Rewards(understanding=Constant(), generation=REWARDS.generation)
    batch = rollout_batch(policy, make_pairs(tmp_path), ROLLOUT, rewards, seed=1, image_folder=tmp_path)
    assert gradient_agreement(policy, batch, policy.train_only(["aligner"]), grpo()) == {}


def test_a_part_that_only_one_task_uses_has_no_agreement(tmp_path: Path) -> None:
    policy = FakePolicy()
    policy.module.requires_grad_(False)
    policy.module.cells.requires_grad_(True)
    batch = rollout_batch(policy, make_pairs(tmp_path), ROLLOUT, REWARDS, seed=1, image_folder=tmp_path)
    parameters = [("cells", policy.module.cells)]
    assert gradient_agreement(policy, batch, parameters, grpo(micro_batch_tokens=20)) == {}
    (own,) = task_gradient(policy, batch, parameters, grpo(), "generation")
    assert own.any()


def test_it_is_the_cosine_of_the_transcribed_objectives(tmp_path: Path) -> None:
    """Autograd of the paper's equations, one task after the other, group by group and token by token."""
    policy = FakePolicy(torch.float64)
    parameters = policy.train_only(["language_model"])
    settings = grpo(micro_batch_tokens=20, token_reduction="token-mean", beta=0.3, understanding_weight=2.0)
    batch = rollout_batch(policy, make_pairs(tmp_path), ROLLOUT, REWARDS, seed=1, image_folder=tmp_path)
    flat = []
    for task in TASKS:
        rollouts, sides = batch.task(task), []
        for pair in range(len(batch.pairs)):
            group = rollouts.trajectories[pair * rollouts.group_size : (pair + 1) * rollouts.group_size]
            replayed = [list(policy.log_probs([one]).values[0]) for one in group]
            old = [[float(value.detach()) for value in row] for row in replayed]
            sides.append(Side(replayed, old, rollouts.rewards[pair].tolist(), old))
        objective = task_objective(
            sides,
            [weight(pair.similarity, pair.kind == "aligned", settings.pair_weight) for pair in batch.pairs],
            guard=settings.std_eps,
            clip_low=settings.clip_low,
            clip_high=settings.clip_high,
            beta=0.0,
            reduction=settings.token_reduction,
        )
        gradients = torch.autograd.grad(objective, [p for _, p in parameters], allow_unused=True)
        filled = [
            torch.zeros_like(p) if g is None else g for (_, p), g in zip(parameters, gradients, strict=True)
        ]
        flat.append(torch.cat([gradient.flatten() for gradient in filled]))
    expected = torch.nn.functional.cosine_similarity(*flat, dim=0)
    found = gradient_agreement(policy, batch, parameters, settings)
    assert found["gradient_agreement"] == pytest.approx(float(expected), rel=1e-5)

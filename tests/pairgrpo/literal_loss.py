"""The transcribed objective of a batch of rollouts, for any policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pairuni.config import PairGRPOSettings
from pairuni.pairgrpo.batch import RolloutBatch
from pairuni.policies.trajectories import TextTrajectory, Trajectory
from pairuni.records import TASKS
from reference.pairgrpo_equations import Side, task_objective, unified_reward, weight


def unfinished(trajectory: Trajectory) -> bool:
    return isinstance(trajectory, TextTrajectory) and not trajectory.finished


def literal_loss(
    policy: Any,
    batch: RolloutBatch,
    settings: PairGRPOSettings,
    old: Any,
    ref: Any,
    *,
    cut_off: Callable[[Any], bool] = unfinished,
) -> Tensor:
    """Minus the transcribed objective of the complete batch, differentiable in ``policy``.

    old, ref: policies with the old and the reference weights. cut_off: whether a trajectory is an unfinished answer.
    """
    unified = settings.unified_reward
    weights = [weight(p.similarity, p.kind == "aligned", settings.pair_weight) for p in batch.pairs]
    total = torch.zeros((), dtype=torch.float64)
    for task, factor in (
        ("understanding", settings.understanding_weight),
        ("generation", settings.generation_weight),
    ):
        rollouts = batch.task(task)  # type: ignore[arg-type]
        sides = []
        for p in range(len(batch.pairs)):
            group = rollouts.trajectories[p * rollouts.group_size : (p + 1) * rollouts.group_size]
            rewards = rollouts.rewards[p].tolist()
            if unified is not None:
                both = [batch.task(side).rewards[p].tolist() for side in TASKS]
                rewards = [unified_reward(*both, k, unified) for k in range(rollouts.group_size)]
            side = Side(
                log_probs=_log_probs(policy, group),
                old=_floats(_log_probs(old, group)),
                rewards=rewards,
                reference=_floats(_log_probs(ref, group)),
                masked=[cut_off(one) for one in group] if settings.truncated == "mask" else None,
            )
            sides.append(side)
        objective = task_objective(
            sides,
            weights,
            guard=settings.std_eps,
            clip_low=settings.clip_low,
            clip_high=settings.clip_high,
            beta=settings.beta,
            reduction=settings.token_reduction,
        )
        total = total - factor * objective
    return total


def _log_probs(policy: Any, trajectories: Sequence[Any]) -> list[list[Tensor]]:
    """Those of each trajectory alone."""
    return [list(policy.log_probs([trajectory]).values[0]) for trajectory in trajectories]


def _floats(values: list[list[Tensor]]) -> list[list[float]]:
    return [[float(value.detach()) for value in row] for row in values]

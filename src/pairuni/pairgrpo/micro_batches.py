"""A step's rollouts in micro-batches, whose losses add up to the objective of the complete batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pairuni.config import PairGRPOSettings
from pairuni.pairgrpo.metrics import LossStatistics
from pairuni.pairgrpo.objective import LossTerms, pairgrpo_loss, trajectory_coefficients
from pairuni.pairgrpo.rollout import RolloutBatch
from pairuni.policies.policy import Trajectory, UnifiedPolicy, replay_tokens
from pairuni.records import Task

_Row = tuple[Task, int]
"""A trajectory: its task, and its place among the task's trajectories."""


@dataclass(frozen=True, kw_only=True)
class TaskRows:
    """The rows of a micro-batch that belong to one task; advantages and coefficients [N], pair weights included."""

    task: Task
    rows: slice
    advantages: Tensor
    coefficients: Tensor
    weight: float


@dataclass(kw_only=True)
class MicroBatch:
    """Trajectories of both tasks that are replayed in one forward pass.

    The first replay, before any weight has changed, fills old_log_probs. Later updates differentiate the same
    forward pass in the same shape, so the ratio before the first update is exactly 1; the log-probs of incremental
    decoding would leave a tight clip range in bf16.
    """

    trajectories: Sequence[Trajectory]
    tasks: Sequence[TaskRows]
    reference_log_probs: Tensor | None = None
    old_log_probs: Tensor | None = None

    def loss(
        self,
        policy: UnifiedPolicy,
        settings: PairGRPOSettings,
        statistics: Mapping[Task, LossStatistics] | None = None,
    ) -> Tensor:
        """This micro-batch's part of the step's loss, a scalar, task weights included."""
        replay = policy.log_probs(self.trajectories)
        first_replay = self.old_log_probs is None
        if self.old_log_probs is None:
            self.old_log_probs = replay.values.detach()
        total = replay.values.new_zeros(())
        for part in self.tasks:
            trajectories = self.trajectories[part.rows]
            own = (part.rows, slice(max(len(one.tokens) for one in trajectories)))
            log_probs = replay.values[own]
            reference = self.reference_log_probs
            terms = LossTerms(
                log_probs=log_probs,
                old_log_probs=self.old_log_probs[own],
                mask=replay.mask[own],
                advantages=part.advantages.to(log_probs),
                coefficients=part.coefficients.to(log_probs),
                reference_log_probs=None if reference is None else reference[own],
            )
            loss = pairgrpo_loss(
                terms, clip_low=settings.clip_low, clip_high=settings.clip_high, beta=settings.beta
            )
            total = total + part.weight * loss
            if statistics is not None:
                with torch.no_grad():
                    statistics[part.task].add(terms, loss, settings)
                    if first_replay:
                        statistics[part.task].add_mismatch(trajectories, terms)
        return total


def task_weights(settings: PairGRPOSettings) -> dict[Task, float]:
    return {"understanding": settings.understanding_weight, "generation": settings.generation_weight}


def micro_batches(batch: RolloutBatch, settings: PairGRPOSettings, tasks: Sequence[Task]) -> list[MicroBatch]:
    """Split the tasks' trajectories into micro-batches; the normalisers are those of the complete batch.

    The groups of a pair stay together, as do the trajectories of a group, which share their prompt, unless that
    exceeds ``micro_batch_tokens``. Without a KL term, a trajectory of advantage 0 has no gradient and is left out.
    """
    advantages = {task: batch.weighted_advantages(task) for task in tasks}
    coefficients = {
        task: trajectory_coefficients(batch.task(task).lengths, settings.token_reduction) for task in tasks
    }
    weights = task_weights(settings)
    groups: list[list[_Row]] = []
    for pair in range(len(batch.pairs)):
        for task in tasks:
            size = batch.task(task).group_size
            rows = range(pair * size, (pair + 1) * size)
            groups.append([(task, row) for row in rows if settings.beta > 0.0 or advantages[task][row] != 0])
    result = []
    for part in _pack(groups, batch, settings.micro_batch_tokens):
        trajectories: list[Trajectory] = []
        task_rows: list[TaskRows] = []
        for task in tasks:
            chosen = [row for owner, row in part if owner == task]
            if chosen:
                start = len(trajectories)
                trajectories += [batch.task(task).trajectories[row] for row in chosen]
                task_rows.append(
                    TaskRows(
                        task=task,
                        rows=slice(start, len(trajectories)),
                        advantages=advantages[task][chosen],
                        coefficients=coefficients[task][chosen],
                        weight=weights[task],
                    )
                )
        result.append(MicroBatch(trajectories=trajectories, tasks=task_rows))
    return result


def _pack(groups: Sequence[Sequence[_Row]], batch: RolloutBatch, budget: int | None) -> list[list[_Row]]:
    """Groups in parts of at most ``budget`` tokens; a group is split only if it alone exceeds the budget."""

    def fits(rows: Sequence[_Row]) -> bool:
        return budget is None or replay_tokens([batch.task(t).trajectories[row] for t, row in rows]) <= budget

    parts: list[list[_Row]] = [[]]
    for group in groups:
        pieces = [list(group)] if fits(group) else [[row] for row in group]
        for piece in pieces:
            if parts[-1] and not fits([*parts[-1], *piece]):
                parts.append([])
            parts[-1] += piece
    return [part for part in parts if part]

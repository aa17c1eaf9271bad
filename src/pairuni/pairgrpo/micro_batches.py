"""A step's rollouts in micro-batches, whose losses add up to the objective of the complete batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pairuni.config import PairGRPOSettings
from pairuni.distributed.world import World
from pairuni.pairgrpo.batch import RolloutBatch, StepNumbers
from pairuni.pairgrpo.metrics import LossStatistics
from pairuni.pairgrpo.objective import LossTerms, pairgrpo_loss, trajectory_coefficients
from pairuni.policies.costs import ReplayCost
from pairuni.policies.policy import UnifiedPolicy
from pairuni.policies.trajectories import Trajectory
from pairuni.records import Task

_Row = tuple[Task, int]
"""A trajectory: its task, and its place among the task's trajectories."""


@dataclass(frozen=True, kw_only=True)
class TaskRows:
    """The rows of a micro-batch that belong to one task; advantages and coefficients [N], pair weights included.

    filler: the rows have coefficient 0 and are replayed only because another rank replays this task now.
    """

    task: Task
    rows: slice
    advantages: Tensor
    coefficients: Tensor
    weight: float
    filler: bool = False


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
            own = (part.rows, slice(max(one.decisions for one in trajectories)))
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
            if statistics is not None and not part.filler:
                with torch.no_grad():
                    statistics[part.task].add(terms, loss, settings)
                    if first_replay:
                        statistics[part.task].add_mismatch(trajectories, terms)
        return total


def task_weights(settings: PairGRPOSettings) -> dict[Task, float]:
    return {"understanding": settings.understanding_weight, "generation": settings.generation_weight}


def micro_batches(
    policy: UnifiedPolicy,
    batch: RolloutBatch,
    settings: PairGRPOSettings,
    tasks: Sequence[Task],
    *,
    numbers: StepNumbers | None = None,
    equal: World | None = None,
) -> list[MicroBatch]:
    """Split the tasks' trajectories into micro-batches; the normalisers are those of the complete batch.

    The groups of a pair stay together, as do the trajectories of a group, which share their prompt, unless that
    exceeds ``micro_batch_tokens``. A masked trajectory is left out, and without a KL term also one of advantage 0: they
    have no gradient.
    numbers: those of all ranks, of which ``batch`` is a part. equal: all ranks of this world get as many
    micro-batches, each with the same tasks, by further rows of coefficient 0; an exchange.
    """
    limit = settings.micro_batch_tokens
    assert limit != "auto", "auto is resolved by with_micro_batches"
    numbers = numbers or StepNumbers.gather(batch, World())
    advantages = {task: batch.weighted_advantages(task) for task in tasks}
    coefficients = {}
    for task in tasks:
        first = numbers.first_pair * batch.task(task).group_size
        own = slice(first, first + len(batch.task(task).trajectories))
        every = numbers.task(task)
        # only answers can be cut off
        masked = torch.tensor(every.unfinished) if settings.truncated == "mask" and every.unfinished else None
        coefficients[task] = trajectory_coefficients(every.decisions, settings.token_reduction, masked)[own]
    weights = task_weights(settings)
    groups: list[list[_Row]] = []
    for pair in range(len(batch.pairs)):
        for task in tasks:
            size = batch.task(task).group_size
            rows = range(pair * size, (pair + 1) * size)
            groups.append(
                [
                    (task, row)
                    for row in rows
                    if coefficients[task][row] != 0 and (settings.beta > 0.0 or advantages[task][row] != 0)
                ]
            )
    parts = _pack(groups, batch, limit, policy.replay_cost)
    replayed = [{task for task, _ in part} for part in parts]
    everywhere = replayed if equal is None else _union(equal.gather(replayed))
    result = []
    for index, wanted in enumerate(everywhere):
        part = parts[index] if index < len(parts) else []
        trajectories: list[Trajectory] = []
        task_rows: list[TaskRows] = []
        for task in tasks:
            if task not in wanted:
                continue
            start = len(trajectories)
            own_advantages, own_coefficients = advantages[task], coefficients[task]
            chosen = [row for owner, row in part if owner == task]
            if filler := not chosen:
                chosen = [_shortest(batch, task)]
                own_advantages = own_coefficients = torch.zeros_like(coefficients[task])
            trajectories += [batch.task(task).trajectories[row] for row in chosen]
            task_rows.append(
                TaskRows(
                    task=task,
                    rows=slice(start, len(trajectories)),
                    advantages=own_advantages[chosen],
                    coefficients=own_coefficients[chosen],
                    weight=weights[task],
                    filler=filler,
                )
            )
        result.append(MicroBatch(trajectories=trajectories, tasks=task_rows))
    return result


def _union(ranks: Sequence[Sequence[set[Task]]]) -> list[set[Task]]:
    """For each micro-batch of any rank, the tasks that some rank replays in it."""
    union: list[set[Task]] = [set() for _ in range(max(map(len, ranks)))]
    for rank in ranks:
        for tasks, replayed in zip(union, rank, strict=False):
            tasks |= replayed
    return union


def _shortest(batch: RolloutBatch, task: Task) -> int:
    lengths = [one.sampled_tokens for one in batch.task(task).trajectories]
    return lengths.index(min(lengths))


def _pack(
    groups: Sequence[Sequence[_Row]],
    batch: RolloutBatch,
    budget: int | None,
    cost: Callable[[Sequence[Trajectory]], ReplayCost],
) -> list[list[_Row]]:
    """Groups in parts of at most ``budget`` tokens; a group is split only if it alone exceeds the budget."""

    def fits(rows: Sequence[_Row]) -> bool:
        return budget is None or cost([batch.task(t).trajectories[row] for t, row in rows]).tokens <= budget

    parts: list[list[_Row]] = [[]]
    for group in groups:
        pieces = [list(group)] if fits(group) else [[row] for row in group]
        for piece in pieces:
            if parts[-1] and not fits([*parts[-1], *piece]):
                parts.append([])
            parts[-1] += piece
    return [part for part in parts if part]

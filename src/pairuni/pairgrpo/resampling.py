"""Groups whose rewards are all equal, sampled again: they have no gradient (after DAPO, arXiv:2503.14476)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from pairuni.pairgrpo.batch import RolloutBatch, StepNumbers, TaskRollouts
from pairuni.records import Task, UGPair
from pairuni.training.seeding import derive_seed

_RESAMPLED = 2
"""Separates the seeds of further attempts from those of the first one, which are derived with 0 and 1."""

Begin = Callable[[Sequence[UGPair], Task, int, int], Callable[[], TaskRollouts]]
"""(pairs, task, seed, number of the first pair) -> a function that waits for their rollouts."""


def resample(
    batch: RolloutBatch,
    attempts: int,
    tasks: Sequence[Task],
    begin: Begin,
    completed: Callable[[RolloutBatch], RolloutBatch],
    *,
    seed: int,
    first_prompt: int,
) -> RolloutBatch:
    """Sample the groups of ``tasks`` without an advantage again until they have one, ``attempts`` times at most.

    The last attempt replaces the ones before it, which are counted as discarded. completed: adds to a batch what
    depends on both tasks. The noise of an attempt depends on the seed, its number and the pair's place in its batch.
    """
    for attempt in range(1, attempts + 1):
        flat = {task: places for task in tasks if (places := _without_advantage(batch.task(task)))}
        if not flat:
            break
        again = derive_seed(seed, _RESAMPLED, attempt)
        begun = {
            task: [
                begin([batch.pairs[place] for place in run], task, again, first_prompt + run.start)
                for run in _runs(places)
            ]
            for task, places in flat.items()
        }
        rollouts = dict(batch.rollouts)
        for task, parts in begun.items():
            rollouts[task] = rollouts[task].with_groups(
                flat[task], TaskRollouts.join([wait() for wait in parts])
            )
        batch = completed(replace(batch, rollouts=rollouts))
    return batch


def resampling_metrics(numbers: StepNumbers) -> dict[str, float]:
    """What resampling did to each task.

    ``resampled``: the groups that were sampled again, each attempt counted. ``rollouts``: all of the step.
    ``first_reward``: the mean reward of first attempts, which is the one without resampling.
    """
    metrics: dict[str, float] = {}
    for task in numbers.tasks:
        side = numbers.task(task)
        groups, size = side.rewards.shape
        again = side.discarded.groups
        metrics |= {
            f"{task}/resampled": again,
            f"{task}/rollouts": (groups + again) * size,
            f"{task}/first_reward": float(side.first_rewards.mean()),
        }
    return metrics


def _without_advantage(rollouts: TaskRollouts) -> list[int]:
    found: list[int] = (rollouts.advantages == 0).all(dim=-1).nonzero().flatten().tolist()
    return found


def _runs(places: Sequence[int]) -> Iterator[range]:
    """Ascending places as ranges, so that neighbours are sampled together."""
    start = 0
    for end in range(1, len(places) + 1):
        if end == len(places) or places[end] != places[end - 1] + 1:
            yield range(places[start], places[end - 1] + 1)
            start = end

"""The sampled images and answers of a step, as a run keeps them."""

from __future__ import annotations

from typing import Any

from pairuni.pairgrpo.batch import RolloutBatch
from pairuni.records import Task
from pairuni.runs.folder import RunFolder
from pairuni.runs.samples import write_sample

PAIRS = 4
"""Pairs of a step that are kept."""


def save_samples(run: RunFolder, batch: RolloutBatch, *, step: int) -> None:
    """Write the first pairs of a batch with rewards and advantages of its tasks into the run's folder."""
    entries = {task: _with_rewards(batch, task) for task in batch.tasks}
    images, answers = entries.get("generation"), entries.get("understanding")
    for index, pair in enumerate(batch.pairs[:PAIRS]):
        write_sample(
            run,
            pair,
            step=step,
            index=index,
            pair_weight=float(batch.weights[index]),
            images=images[index] if images else (),
            answers=answers[index] if answers else (),
        )


def _with_rewards(batch: RolloutBatch, task: Task) -> list[list[tuple[Any, dict[str, Any]]]]:
    """For each pair, its samples with their reward and weighted advantage, and the terms if the reward is a sum."""
    rollouts = batch.task(task)
    entries: list[dict[str, Any]] = [
        {"reward": reward, "advantage": advantage}
        for reward, advantage in zip(
            rollouts.rewards.flatten().tolist(), batch.weighted_advantages(task).tolist(), strict=True
        )
    ]
    if len(rollouts.terms) > 1:
        for name, scores in rollouts.terms.items():
            for entry, score in zip(entries, scores.flatten().tolist(), strict=True):
                entry.setdefault("rewards", {})[name] = score
    flat = list(zip(rollouts.samples, entries, strict=True))
    size = rollouts.group_size
    return [flat[start : start + size] for start in range(0, len(flat), size)]

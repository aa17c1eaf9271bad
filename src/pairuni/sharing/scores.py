"""The scores of a shared model: held-out scores of its run and benchmark results, with protocol and interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairuni.evaluation.result import read_result
from pairuni.intervals import bootstrap_interval, wilson_interval
from pairuni.records import TASKS, Task
from pairuni.runs.evaluations import StepEvaluation, TaskScores
from pairuni.sharing.recipe import without_machine
from pairuni.sharing.source import Source

_CORRECT: Mapping[Task, str] = {
    "understanding": "share of questions answered correctly, greedy answers",
    "generation": "share of images in which a detector that gave no reward sees what the prompt asks for, one image "
    "per prompt at temperature 1",
}


@dataclass(frozen=True, kw_only=True)
class Score:
    """One score. before: that of the untrained model, in the same unit."""

    benchmark: str
    protocol: str
    value: float
    unit: str
    interval: tuple[float, float] | None = None
    items: int | None = None
    before: float | None = None


def scores_of(source: Source, results: Sequence[Path] = ()) -> list[Score]:
    """Held-out scores of the run at the shared step, and the results in files of ``pairuni eval``.

    Raises ValueError if a file is no result.
    """
    return [*(_demo_scores(source) or _step_scores(source)), *map(_result, results)]


def _demo_scores(source: Source) -> list[Score]:
    """Scores before and after training of the demo."""
    if not source.is_final:
        return []
    scores = []
    for task in TASKS:
        after, before = source.run.after.task(task), source.run.before.task(task)
        if after is not None:
            scores.append(_correct(task, after, before, "held-out scenes of the digits world"))
    return scores


def _correct(task: Task, after: TaskScores, before: TaskScores | None, items: str) -> Score:
    interval = wilson_interval(after.score, after.count) if after.count else None
    return Score(
        benchmark=f"{task} on {items}",
        protocol=_CORRECT[task],
        value=100 * after.score,
        unit="%",
        interval=None if interval is None else (100 * interval[0], 100 * interval[1]),
        items=after.count,
        before=None if before is None else 100 * before.score,
    )


def _step_scores(source: Source) -> list[Score]:
    """Scores of the evaluation during training at the shared step."""
    by_step = {evaluation.step: evaluation for evaluation in source.run.step_evaluations}
    if source.step is None or source.step not in by_step:
        return []
    after, before = by_step[source.step], by_step.get(0)
    if source.settings.get("evaluation", {}).get("task", "pairs") == "pairs":
        return [_rewarded(source.settings, task, after, before) for task in TASKS]
    scenes = "held-out scenes of the digits world"
    return [
        _correct(task, _counted(after, task), None if before is None else _counted(before, task), scenes)
        for task in TASKS
    ]


def _counted(evaluation: StepEvaluation, task: Task) -> TaskScores:
    found = evaluation.task(task)
    return TaskScores(score=found.score, count=len(found.items) or None)


def _rewarded(
    settings: Mapping[str, Any], task: Task, after: StepEvaluation, before: StepEvaluation | None
) -> Score:
    found = after.task(task)
    rewards = [item.reward for item in found.items if item.reward is not None]
    complete = bool(rewards) and len(rewards) == len(found.items)
    reward = reward_name(settings, task)
    sampled = "greedy answers" if task == "understanding" else "one image per prompt"
    return Score(
        benchmark=f"{task} on held-out pairs",
        protocol=f"mean reward ({reward}) on pairs that were not trained on, {sampled}",
        value=found.score,
        unit="mean reward",
        interval=bootstrap_interval([rewards], lambda means: means[0]) if complete else None,
        items=len(found.items) or None,
        before=None if before is None else before.task(task).score,
    )


def reward_name(settings: Mapping[str, Any], task: Task) -> str:
    """The reward of a task, as the settings name it."""
    default = {"understanding": "accuracy", "generation": "hpsv2"}[task]
    return str(without_machine(settings.get("reward", {}).get(task, default)))


def _result(path: Path) -> Score:
    found = read_result(path)
    return Score(
        benchmark=found.benchmark,
        protocol="; ".join(one for one in (found.protocol, found.conditions) if one),
        value=found.score,
        unit=found.unit,
        interval=found.interval,
        items=next(iter(found.counts.values())) if len(found.counts) == 1 else None,
    )

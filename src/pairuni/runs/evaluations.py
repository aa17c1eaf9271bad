"""evaluation/: held-out scores before, during and after training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from pairuni.io.files import write_text
from pairuni.records import Task
from pairuni.runs.folder import RunFolder, step_name
from pairuni.runs.reading import Count, Number, Part, Share, checked, read_json


class KindScore(Part):
    """Share of correct items of one kind, and their number where known."""

    score: Share
    count: Count | None = None


class Item(Part):
    """One held-out item: a question that was answered, or a prompt that was generated.

    image: relative to the run's folder; empty if none was kept. reply: the answer, or what the detector saw in an
    image. reward: its reward; correct: whether it is right, where the evaluation says only that.
    """

    kind: str = ""
    image: str = ""
    prompt: str = ""
    question: str = ""
    answer: str = ""
    reply: str = ""
    reward: Number | None = None
    correct: bool | None = None


class MarkedItem(Item):
    """An item before or after training.

    form: of a question, "open" or "options"; reads: whether the words of its reply are right, whatever letter it adds.
    Both are missing where the evaluation does not tell them apart.
    """

    correct: bool
    form: str = ""
    reads: bool | None = None


class TaskScores(Part):
    """The share of correct items of a task."""

    score: Share
    count: Count | None = None
    by_kind: dict[str, KindScore] = Field(default_factory=dict)
    items: list[MarkedItem] = Field(default_factory=list)


class Evaluation(Part):
    """evaluation/before.json or after.json."""

    understanding: TaskScores | None = None
    generation: TaskScores | None = None

    def task(self, task: Task) -> TaskScores | None:
        return self.understanding if task == "understanding" else self.generation


class StepScores(Part):
    """Mean reward, or share of correct items, of a task."""

    score: Number
    items: list[Item] = Field(default_factory=list)


class StepEvaluation(Part):
    """evaluation/step-<step>.json; step 0 is the untrained policy."""

    step: Count
    understanding: StepScores
    generation: StepScores

    def task(self, task: Task) -> StepScores:
        return self.understanding if task == "understanding" else self.generation


def write_step_evaluation(run: RunFolder, step: int, tasks: Mapping[Task, Mapping[str, Any]]) -> None:
    """tasks: score, count and items of each task, as ``StepScores`` reads them."""
    path = run.evaluation / f"{step_name(step)}.json"
    write_text(path, json.dumps({"step": step, **tasks}, indent=1) + "\n")


def read_step_evaluations(folder: Path) -> list[StepEvaluation]:
    """The evaluations during training of a run's folder, by step. Raises ValueError naming a file."""
    evaluations = []
    for path in RunFolder(folder).evaluation.glob("step-*.json"):
        step = path.stem.removeprefix("step-")
        if not (step.isascii() and step.isdecimal() and len(step) < 16):
            raise ValueError(f"{path}: the name must contain a step, as in step-000100.json")
        evaluations.append(checked(StepEvaluation, {**read_json(path), "step": int(step)}, path))
    return sorted(evaluations, key=lambda evaluation: evaluation.step)

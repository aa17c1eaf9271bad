"""results.jsonl: one line for each finished run of any study in a folder."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from pairuni.io.files import write_text
from pairuni.records import TASKS, Task
from pairuni.runs.history import settings_changes
from pairuni.runs.metrics import AGREEMENT, MetricsRow, read_metrics
from pairuni.runs.reading import Count, Number, Part, checked, read_rows
from pairuni.studies.cells import NO_INFLUENCE, Cell

RESULTS = "results.jsonl"
RUNS = "runs"
"""Folder of the runs, each in a folder named by its key."""
_CURVES = ("understanding/reward", "generation/reward", AGREEMENT)
_DIGITS = 4


def mean_of(values: Sequence[float | None]) -> float | None:
    """The mean of the values that there are."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


class TaskResult(Part):
    """Held-out scores of one task.

    items: the score of each held-out item, in their order; where items are right or wrong, a string of 1 and 0.
    by_kind: mean score of the items of each kind, empty where they have none.
    """

    score: Number
    items: str | list[Number]
    by_kind: dict[str, Number] = Field(default_factory=dict)

    @property
    def item_scores(self) -> list[float]:
        return [float(item) for item in self.items]


class Scores(Part):
    """Held-out scores of both tasks."""

    understanding: TaskResult
    generation: TaskResult

    def task(self, task: Task) -> TaskResult:
        return self.understanding if task == "understanding" else self.generation


class Result(Part):
    """A finished run.

    key: of its settings, see ``Cell.key``. study, row: what the run was made for; other studies with the same
    settings use it too. curves: metrics by step. settings, build: as trained and built.
    """

    key: str
    seed: Count
    study: str
    row: str
    command: str
    version: str
    commit: str
    finished: str
    seconds: Number
    steps: Count
    pairs: dict[str, Number]
    before: Scores
    after: Scores
    curves: dict[str, list[Number | None]]
    settings: dict[str, Any]
    build: dict[str, Any] | None = None

    def gain(self, task: Task) -> float:
        return self.after.task(task).score - self.before.task(task).score

    def mean(self, curve: str) -> float | None:
        """The mean of a curve over the steps that have it."""
        return mean_of(self.curves.get(curve, ()))


def read_results(path: Path) -> dict[str, Result]:
    """The runs of a results file by key; of several with one key the last. Raises ValueError naming a bad line."""
    results = (checked(Result, row, where) for where, row in read_rows(path))
    return {result.key: result for result in results}


def append_result(path: Path, result: Result) -> None:
    """Add a line; a last line that a kill cut short is dropped."""
    rows = [row for _, row in read_rows(path)]
    lines = [json.dumps(row, ensure_ascii=False) for row in [*rows, result.model_dump(mode="json")]]
    write_text(path, "".join(f"{line}\n" for line in lines))


def result_of(cell: Cell, results: Mapping[str, Result]) -> Result | None:
    """The finished run of a cell, or None.

    Raises ValueError if a run has its key but other settings, as when a default has changed since.
    """
    found = results.get(cell.key)
    if found is None:
        return None
    now = cell.settings.model_dump(mode="json", exclude=set(NO_INFLUENCE))
    for key, (was, value) in settings_changes(found.settings, now).items():
        if key != "data.pairs":
            raise ValueError(
                f"{RESULTS} has a run of row {cell.row.name!r}, seed {cell.seed}, in which {key} was {was!r} "
                f"and not {value!r}; use another --out"
            )
    return found


def scores_from(evaluation: Mapping[str, Any], where: str) -> Scores:
    """The scores of an evaluation file of a run (``runs.evaluations``)."""
    return checked(Scores, {task: _task_scores(evaluation[task]) for task in TASKS}, where)


def _task_scores(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    items = evaluation["items"]
    if all(item.get("correct") is not None for item in items):
        scores: list[float] = [int(item["correct"]) for item in items]
        kept: str | list[float] = "".join(map(str, scores))
    else:
        kept = scores = [round(float(item["reward"]), _DIGITS) for item in items]
    kinds: dict[str, list[float]] = {}
    for item, score in zip(items, scores, strict=True):
        if item.get("kind"):
            kinds.setdefault(item["kind"], []).append(score)
    by_kind = {kind: round(statistics.fmean(values), _DIGITS) for kind, values in kinds.items()}
    return {"score": evaluation["score"], "items": kept, "by_kind": by_kind}


def curves_from(path: Path) -> dict[str, list[float | None]]:
    """The curves of a run's metrics, a value or None for each step, rounded."""
    rows = [row for row in read_metrics(path) if row.step > 0]
    curves = {name: [_rounded(row, name) for row in rows] for name in _CURVES}
    return {name: values for name, values in curves.items() if any(value is not None for value in values)}


def numbers_of_pairs(similarities: Sequence[float], kinds: Sequence[str]) -> dict[str, float]:
    """What a row trained on: pairs, how many of them aligned, and their mean similarity."""
    return {
        "count": len(kinds),
        "aligned": kinds.count("aligned"),
        "similarity": round(sum(similarities) / len(similarities), _DIGITS),
    }


def _rounded(row: MetricsRow, name: str) -> float | None:
    value = row.value(name)
    return None if value is None else round(value, _DIGITS)

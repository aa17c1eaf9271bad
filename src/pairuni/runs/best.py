"""The checkpoint of a run with the best held-out score, also by the name RUN@best."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairuni.runs.folder import RunFolder
from pairuni.runs.metrics import MetricsLog
from pairuni.training.checkpoint import list_checkpoints, step_of

BEST = "@best"
"""What follows a run's folder in the name of its best model."""


@dataclass(frozen=True)
class BestCheckpoint:
    """folder: of the checkpoint; score: the mean of its held-out scores. higher: step and score of the best step of the
    run, if that is another one, of which no checkpoint was kept."""

    folder: Path
    score: float
    higher: tuple[int, float] | None

    @property
    def step(self) -> int:
        return step_of(self.folder)


def held_out_scores(rows: Iterable[Mapping[str, Any]]) -> dict[int, float]:
    """Mean held-out score by step, of the lines of metrics.jsonl that have any."""
    scores = {}
    for row in rows:
        values = [value for name, value in row.items() if name.startswith("eval/")]
        if values and all(isinstance(value, int | float) for value in values):
            scores[row["step"]] = statistics.fmean(values)
    return scores


def best_checkpoint(run: Path) -> BestCheckpoint:
    """The best of the checkpoints that a run has kept; of two with equal scores the later one.

    Raises ValueError if none has a held-out score, FileNotFoundError if there is no such folder.
    """
    if not run.is_dir():
        raise FileNotFoundError(f"{run}: no such run folder")
    scores = held_out_scores(MetricsLog(RunFolder(run).metrics).rows())
    folders = {step_of(folder): folder for folder in list_checkpoints(RunFolder(run).checkpoints)}
    kept = [step for step in folders if step in scores]
    if not kept:
        raise ValueError(
            f"no checkpoint of {run} has a held-out score, so none is the best; set evaluation.every, and "
            "checkpoint.every to a multiple of it"
        )
    step, top = (max(steps, key=lambda one: (scores[one], one)) for steps in (kept, scores))
    return BestCheckpoint(
        folders[step], scores[step], (top, scores[top]) if scores[top] > scores[step] else None
    )


def better_checkpoint(run: Path, last: int) -> BestCheckpoint | None:
    """The best checkpoint of a run, unless it is the one of its last step or there is none."""
    try:
        best = best_checkpoint(run)
    except ValueError:
        return None
    return None if best.step == last else best


def run_of_best(name: str | Path) -> Path | None:
    """The run's folder in a name RUN@best; None for any other name, and for a folder whose own name ends so."""
    text = str(name)
    if not text.endswith(BEST) or Path(text).expanduser().is_dir():
        return None
    return Path(text.removesuffix(BEST)).expanduser()

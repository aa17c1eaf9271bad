"""Public benchmarks of a study's runs, beside the paper's figures."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from pairuni.config import StudySettings, SuiteSettings, find_recipe, load_settings
from pairuni.evaluation.comparison import find_results
from pairuni.evaluation.result import Result
from pairuni.evaluation.suite import TABLES
from pairuni.paper import benchmarks
from pairuni.studies.scheduler import Part, python

FOLDER = "benchmarks"
"""In a run's folder."""
_OTHER_RULES = "no random guess"
"""Variant of MMMU's rules that is reported next to the official score."""


def check_suite(recipe: Path, study: StudySettings) -> list[str]:
    """The options of ``eval all RECIPE`` for the runs of a study: the benchmarks that the study has figures for.

    Without figures, or without a section of these benchmarks, all run. Raises ValueError for wrong settings and
    FileNotFoundError for missing files.
    """
    path = find_recipe(recipe)
    settings = load_settings(SuiteSettings, path, ["--model=model", "--out=out"])
    named = {benchmarks()[name].task for row in study.rows for name in row.paper if name in benchmarks()}
    tasks = [task for task in settings.chosen if task in named] or list(settings.chosen)
    for task in tasks:
        if not (data := settings.chosen[task].data).exists():
            raise FileNotFoundError(f"{data}: no such file or folder; {path} names it as {task}.data")
    return [str(path), f"--tasks={','.join(tasks)}"]


def benchmark_part(name: str, run: Path, suite: Sequence[str]) -> Part:
    """The benchmarks of the model of a run. suite: of ``check_suite``."""
    out = run / FOLDER
    recipe, *options = suite
    command = python("pairuni", "eval", "all", recipe, f"--model={run}", f"--out={out}", *options)
    return Part(f"{name}, benchmarks", out, [command], out / TABLES)


def read_scores(run: Path) -> dict[str, str | float]:
    """The official scores of a run by the paper's names and in its units; as text where a benchmark is incomplete."""
    if not (run / FOLDER / TABLES).is_file():
        return {}
    results = [one for one in find_results([run / FOLDER]).values() if _OTHER_RULES not in one.protocol]
    by_name = {result.benchmark: result for result in results}
    return {
        name: _score(by_name[one.result], one.unit)
        for name, one in benchmarks().items()
        if one.result in by_name
    }


def mean_score(scores: Sequence[Mapping[str, str | float]], name: str) -> str:
    """The mean over the runs of a row; empty if no run has the score, and one of them if any is incomplete."""
    found = [one[name] for one in scores if name in one]
    if texts := [one for one in found if isinstance(one, str)]:
        return texts[0]
    numbers = [one for one in found if not isinstance(one, str)]
    return f"{statistics.fmean(numbers):.4g}" if numbers else ""


def _score(result: Result, unit: float) -> str | float:
    value = result.score / unit
    return f"{value:.4g} (partial)" if "partial" in result.protocol else value

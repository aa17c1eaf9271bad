"""The tables of a study: scores beside the paper's, paired differences, gains, kinds and runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pairuni.config import StudyRow, StudySettings
from pairuni.console.counts import counted
from pairuni.io.markdown import raw_table
from pairuni.records import TASKS, Task
from pairuni.report.axes import signed
from pairuni.runs.metrics import AGREEMENT
from pairuni.studies import statistics
from pairuni.studies.benchmarks import mean_score, read_scores
from pairuni.studies.cells import Cell
from pairuni.studies.results import Result, mean_of, result_of
from pairuni.studies.statistics import Estimate


@dataclass(frozen=True)
class RowResults:
    """The finished runs of a row by seed. benchmarks: scores of each run that has them, by the paper's names."""

    row: StudyRow
    runs: Mapping[int, Result]
    benchmarks: Sequence[Mapping[str, str | float]] = ()

    @property
    def ordered(self) -> list[Result]:
        return [self.runs[seed] for seed in sorted(self.runs)]


Differences = Mapping[Task, Mapping[str, Estimate]]
"""Differences to the default row by task and name of the row."""


def rows_of(
    study: StudySettings, cells: Sequence[Cell], results: Mapping[str, Result], runs: Path | None = None
) -> list[RowResults]:
    """The rows of a study with their finished runs. runs: folder of the runs, whose benchmarks are read."""
    found: dict[str, dict[int, Result]] = {row.name: {} for row in study.rows}
    for cell in cells:
        if (result := result_of(cell, results)) is not None:
            found[cell.row.name][cell.seed] = result
    return [RowResults(row, found[row.name], _benchmarks(found[row.name], runs)) for row in study.rows]


def _benchmarks(found: Mapping[int, Result], runs: Path | None) -> list[dict[str, str | float]]:
    return [] if runs is None else [one for run in found.values() if (one := read_scores(runs / run.key))]


def differences(study: StudySettings, rows: Sequence[RowResults]) -> Differences:
    """Differences to the default row, of every other row that has a seed in common with it."""
    default = next(row for row in rows if row.row.name == study.default)
    return {
        task: {
            row.row.name: found
            for row in rows
            if row is not default
            and (found := statistics.difference(row.runs, default.runs, task)) is not None
        }
        for task in TASKS
    }


def results_table(study: StudySettings, rows: Sequence[RowResults], found: Differences) -> list[list[str]]:
    """The study's table, header first: paper, scores, paired differences to the default row, agreement, seeds."""
    benchmarks = list(dict.fromkeys(name for row in study.rows for name in row.paper))
    agreed = any(AGREEMENT in run.curves for row in rows for run in row.runs.values())
    measured = [name for name in benchmarks if any(name in one for row in rows for one in row.benchmarks)]
    head = [study.title, *measured, *(f"{name} (paper)" for name in benchmarks)]
    for task in TASKS:
        head += [task, f"difference to {study.default}"]
    head += [*(["agreement"] if agreed else []), "pairs", "seeds"]
    return [head, *(_cells(row, found, measured, benchmarks, agreed) for row in rows)]


def _cells(
    row: RowResults, found: Differences, measured: Sequence[str], benchmarks: Sequence[str], agreed: bool
) -> list[str]:
    runs = row.ordered
    cells = [row.row.name, *(mean_score(row.benchmarks, name) for name in measured)]
    cells += [_paper(row.row.paper.get(name)) for name in benchmarks]
    for task in TASKS:
        if not runs:
            cells += ["", ""]
            continue
        cells.append(_percent(statistics.score(runs, task)))
        other = found[task].get(row.row.name)
        cells.append("" if other is None else points(other))
    if agreed:
        mean = mean_of([run.mean(AGREEMENT) for run in runs])
        cells.append("" if mean is None else signed(mean, 3))
    counts = sorted({f"{run.pairs['count']:,.0f}" for run in runs})
    return [*cells, " to ".join(dict.fromkeys((counts[0], counts[-1]))) if counts else "", str(len(runs))]


def gains(rows: Sequence[RowResults]) -> list[list[str]]:
    """Scores before training and gains, header first."""
    head = ["row", *(f"{task}: before, gain" for task in TASKS)]
    lines = [head]
    for row in rows:
        if runs := row.ordered:
            lines.append(
                [
                    row.row.name,
                    *(f"{_before(runs, task)}, {points(statistics.gain(runs, task))}" for task in TASKS),
                ]
            )
    return lines


def kinds(rows: Sequence[RowResults], task: Task) -> list[list[str]]:
    """Mean score after training by kind of item, header first; empty if items have no kinds."""
    names = list(
        dict.fromkeys(kind for row in rows for run in row.ordered for kind in run.after.task(task).by_kind)
    )
    if not names:
        return []
    lines = [["row", *names]]
    for row in rows:
        if row.ordered:
            lines.append([row.row.name, *(_of_kind(row.ordered, task, name) for name in names)])
    return lines


def runs_table(rows: Sequence[RowResults]) -> list[list[str]]:
    """Every run with its scores before and after, header first; key names its line in results.jsonl."""
    head = ["row", "seed", "understanding", "generation", "steps", "seconds", "commit", "finished", "key"]
    return [
        head,
        *(
            [
                *(row.row.name, str(run.seed)),
                *(
                    f"{100 * run.before.task(task).score:.1f} → {100 * run.after.task(task).score:.1f}"
                    for task in TASKS
                ),
                *(str(run.steps), f"{run.seconds:,.0f}", run.commit or run.version, run.finished, run.key),
            ]
            for row in rows
            for run in row.ordered
        ),
    ]


def note(study: StudySettings, rows: Sequence[RowResults]) -> str:
    """What the numbers of ``table`` are, and how many runs and comparisons there were."""
    runs = sum(len(row.runs) for row in rows)
    items = {len(run.after.task(task).items) for row in rows for run in row.runs.values() for task in TASKS}
    tested = sum(len(row.runs) > 1 for row in rows if row.row.name != study.default) * len(TASKS)
    return (
        f"{counted(runs, 'run')}. Held-out scores in percent, mean over seeds, on "
        f"{' or '.join(f'{number:,}' for number in sorted(items))} items per task and seed. Differences in points, "
        "paired by seed and item. Intervals: 95%, bootstrap over seeds and items. Bold: the interval excludes 0; of "
        f"{counted(tested, 'difference')}, {0.05 * tested:.1f} would be bold by chance if no row differed."
    )


def markdown(study: StudySettings, rows: Sequence[RowResults]) -> str:
    """All tables of a study in Markdown."""
    parts = [
        markdown_table(results_table(study, rows, differences(study, rows))),
        note(study, rows),
        markdown_table(gains(rows)),
    ]
    parts += [markdown_table(lines) for task in TASKS if (lines := kinds(rows, task))]
    return "\n\n".join(parts) + "\n"


def markdown_table(lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, header first."""
    head, *rest = lines
    return raw_table(head, rest)


def _paper(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _percent(found: Estimate) -> str:
    return _with_interval(found, lambda share: f"{100 * share:.1f}")


def points(found: Estimate) -> str:
    """A difference in points with its interval, bold in Markdown if the interval excludes 0."""
    shown = _with_interval(found, lambda share: signed(100 * share, 1))
    return f"**{shown}**" if found.clear else shown


def _with_interval(found: Estimate, written: Callable[[float], str]) -> str:
    shown = written(found.mean)
    if found.interval is None:
        return shown
    low, high = map(written, found.interval)
    return f"{shown} [{low}, {high}]"


def _before(runs: Sequence[Result], task: Task) -> str:
    return f"{100 * sum(run.before.task(task).score for run in runs) / len(runs):.1f}"


def _of_kind(runs: Sequence[Result], task: Task, kind: str) -> str:
    mean = mean_of([run.after.task(task).by_kind.get(kind) for run in runs])
    return "" if mean is None else f"{100 * mean:.1f}"

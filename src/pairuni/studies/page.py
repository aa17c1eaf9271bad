"""The page of a study: tables, differences with their intervals, and curves, in one file that makes no requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pairuni.config import StudySettings
from pairuni.io.files import write_text
from pairuni.records import TASKS
from pairuni.report.curves import SMOOTHING, Line, line_chart
from pairuni.report.differences import Difference, difference_card
from pairuni.report.document import document, table
from pairuni.report.markup import escape, section
from pairuni.runs.metrics import AGREEMENT
from pairuni.studies.cells import Cell
from pairuni.studies.results import RUNS, Result, mean_of
from pairuni.studies.tables import (
    Differences,
    RowResults,
    differences,
    gains,
    kinds,
    markdown,
    note,
    points,
    results_table,
    rows_of,
    runs_table,
)

_CURVES = {
    "understanding/reward": "Understanding reward",
    "generation/reward": "Generation reward",
    AGREEMENT: "Gradient agreement",
}
_DIFFERENCES = "To the default row, in points of the held-out score, with 95% intervals."


def write_page(
    name: str, study: StudySettings, cells: Sequence[Cell], results: Mapping[str, Result], out: Path
) -> Path:
    """Write ``out``/<name>.html and <name>.md from the finished runs; returns the page's path."""
    rows = rows_of(study, cells, results, out / RUNS)
    write_text(out / f"{name}.md", markdown(study, rows))
    path = out / f"{name}.html"
    write_text(path, html(study, rows))
    return path


def html(study: StudySettings, rows: Sequence[RowResults]) -> str:
    """The page of a study."""
    return document("PairUni study", study.title, sections(study, rows))


def sections(study: StudySettings, rows: Sequence[RowResults], prefix: str = "") -> list[str]:
    """The sections of a study. prefix: of their ids, on a page with several studies."""
    title = f"{study.title}: " if prefix else ""
    compared = differences(study, rows)
    found = [
        ("table", "results", results_table(study, rows, compared), note(study, rows)),
        (
            "gains",
            "before training, and gains",
            gains(rows),
            "Held-out scores; gains in points with 95% intervals.",
        ),
        *(
            (f"kinds-{task}", f"{task} by kind", lines, "Held-out score after training.")
            for task in TASKS
            if (lines := kinds(rows, task))
        ),
    ]
    charted = _difference_cards(compared)
    runs = ("runs", "runs", runs_table(rows), "Every finished run; key names its line in results.jsonl.")
    return [
        _table_section(prefix, title, *found[0]),
        *(
            [section(f"{prefix}differences", escape(_title(title, "differences")), charted, _DIFFERENCES)]
            if charted
            else []
        ),
        *(_table_section(prefix, title, *one) for one in found[1:]),
        section(
            f"{prefix}curves",
            escape(_title(title, "curves")),
            _curves(rows),
            f"Means over the seeds of each row. {SMOOTHING}",
        ),
        _table_section(prefix, title, *runs),
    ]


def _table_section(prefix: str, title: str, name: str, words: str, lines: list[list[str]], note: str) -> str:
    return section(f"{prefix}{name}", escape(_title(title, words)), table(lines), note)


def _title(study: str, words: str) -> str:
    return f"{study}{words}" if study else words.capitalize()


def _curves(rows: Sequence[RowResults]) -> str:
    charts = []
    for curve, title in _CURVES.items():
        for row in rows:
            series = [run.curves[curve] for run in row.ordered if curve in run.curves]
            if not series:
                continue
            means = [mean_of(values) for values in zip(*series, strict=False)]
            points = [(step, mean) for step, mean in enumerate(means, start=1) if mean is not None]
            steps, values = zip(*points, strict=True)
            charts.append(
                line_chart(
                    f"{title}: {row.row.name}",
                    [Line(steps, values)],
                    tone=curve.partition("/")[0],
                    small=True,
                )
            )
    return f'<div class="small-charts">{"".join(charts)}</div>'


def _difference_cards(found: Differences) -> str:
    """A card for each task: the difference of every row to the default row, with its interval."""
    cards = [
        difference_card(
            task,
            [Difference(name, one.mean, one.interval, points(one).strip("*")) for name, one in rows.items()],
        )
        for task, rows in found.items()
        if rows
    ]
    return f'<div class="cards">{"".join(cards)}</div>' if cards else ""

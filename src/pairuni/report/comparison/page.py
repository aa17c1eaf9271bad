"""The page of a comparison: one file that makes no requests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pairuni.io.files import write_text
from pairuni.report.comparison import curves, samples, scores, settings
from pairuni.report.comparison.runs import Compared, legend, overview, read_compared
from pairuni.report.document import checked_page, document
from pairuni.report.page import links

SECTIONS = (
    overview,
    scores.held_out_scores,
    curves.curves,
    settings.settings,
    scores.kinds,
    samples.images,
    samples.answers,
)


def write_comparison(runs: Sequence[Path], out: Path) -> Path:
    """Write the page ``out`` that compares runs, differences being to the first one. Returns its path.

    Sections for which the runs have no data are left out; sentences say what a run lacks.
    Raises FileNotFoundError if there is no such folder, ValueError if there are fewer than 2 runs or more than
    ``MOST_RUNS``, one is given twice or cannot be read, or ``out`` is a folder.
    """
    path = checked_page(out)
    compared = read_compared(runs)
    write_text(path, render(compared))
    return path


def render(runs: Sequence[Compared]) -> str:
    """The page of these runs."""
    body = [part for part in (section(runs) for section in SECTIONS) if part]
    title = " and ".join(_titles(runs))
    return document("PairUni comparison", title, [legend(runs), *body], head=links(body))


def _titles(runs: Sequence[Compared]) -> list[str]:
    return [one.name for one in runs] if len(runs) == 2 else [runs[0].name, f"{len(runs) - 1} more runs"]

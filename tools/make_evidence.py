"""Writes the tables of docs/evidence.md, and docs/evidence.html, from the results in docs/evidence/.

python tools/make_evidence.py
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from pairuni.config import StudySettings, load_settings
from pairuni.io.files import write_text
from pairuni.report.document import document
from pairuni.report.mixes import mixes_sections
from pairuni.runs.mixes import MixesFolder, mix_statistics, statistics_table
from pairuni.studies.cells import cells_of
from pairuni.studies.page import sections
from pairuni.studies.results import RESULTS, Result, read_results
from pairuni.studies.tables import (
    RowResults,
    differences,
    gains,
    markdown_table,
    note,
    results_table,
    rows_of,
)

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "evidence.md"
RESULTS_FILE = ROOT / "docs" / "evidence" / RESULTS
AGREEMENT = MixesFolder(ROOT / "docs" / "evidence" / "agreement")
ABLATIONS = ROOT / "recipes" / "ablations"
STUDIES = (
    *("pairing", "weighting", "threshold", "selection", "encoder"),
    *("matching", "tasks", "branch", "unified_reward", "estimators"),
)
"""In the order of the page: the paper's tables first."""
_TABLE = re.compile(r"(<!-- (table|gains): (\w+) -->\n).*?(<!-- end of table -->)", re.S)


def study_rows(name: str, results: Mapping[str, Result]) -> tuple[StudySettings, list[RowResults]]:
    """A study and its rows with the runs that the results have."""
    study = load_settings(StudySettings, ABLATIONS / f"{name}.toml")
    cells = cells_of(study, ABLATIONS, RESULTS_FILE.parent)
    return study, rows_of(study, cells, results)


def with_tables(text: str, results: Mapping[str, Result]) -> str:
    """The page with its tables updated."""

    def filled(found: re.Match[str]) -> str:
        start, kind, name, end = found.groups()
        if name == "agreement":
            return f"{start}\n{markdown_table(statistics_table(mix_statistics(AGREEMENT.read())))}\n\n{end}"
        study, rows = study_rows(name, results)
        if kind == "gains":
            return f"{start}\n{markdown_table(gains(rows))}\n\n{end}"
        lines = results_table(study, rows, differences(study, rows))
        return f"{start}\n{markdown_table(lines)}\n\n{note(study, rows)}\n\n{end}"

    return _TABLE.sub(filled, text)


def html(results: Mapping[str, Result]) -> str:
    """One page with all studies that have results."""
    body: list[str] = []
    for name in STUDIES:
        study, rows = study_rows(name, results)
        if any(row.runs for row in rows):
            body += sections(study, rows, prefix=f"{name}-")
    body += mixes_sections(mix_statistics(AGREEMENT.read()), prefix="agreement-")
    return document("Evidence", "Does pairing help?", body)


def main() -> None:
    results = read_results(RESULTS_FILE)
    write_text(PAGE, with_tables(PAGE.read_text(encoding="utf-8"), results))
    write_text(PAGE.with_suffix(".html"), html(results))


if __name__ == "__main__":
    main()

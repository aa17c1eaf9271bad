"""The page of evidence is made from the committed results."""

from __future__ import annotations

from pairuni.studies.results import read_results
from tools.make_evidence import PAGE, RESULTS_FILE, STUDIES, html, study_rows, with_tables


def test_the_tables_and_the_html_page_are_those_of_the_results() -> None:
    results = read_results(RESULTS_FILE)
    text = PAGE.read_text(encoding="utf-8")
    assert text == with_tables(text, results), "run python tools/make_evidence.py"
    assert PAGE.with_suffix(".html").read_text(encoding="utf-8") == html(results), (
        "run python tools/make_evidence.py"
    )


def test_every_run_says_how_it_was_made_and_belongs_to_a_table() -> None:
    results = read_results(RESULTS_FILE)
    used = {run.key for name in STUDIES for row in study_rows(name, results)[1] for run in row.runs.values()}
    assert used == results.keys()
    for run in results.values():
        assert run.command.startswith("pairuni ablate recipes/ablations/")
        assert run.commit
        assert len(run.curves["understanding/reward"]) == run.steps or "alternating" in run.row

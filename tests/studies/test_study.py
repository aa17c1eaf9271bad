"""A study's runs, started again after failures and interruptions, with a made-up worker in place of training."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import pytest

from pairuni.studies import study as module
from pairuni.studies.results import read_results
from pairuni.studies.scheduler import PartFailed
from pairuni.studies.study import Study, run_study

WORKER = """
import json, pathlib, sys
*_, kind, folder = sys.argv
folder = pathlib.Path(folder)
if kind == "build":
    (folder.parent / "pairs.jsonl").write_text("")
    sys.exit()
with (folder / "started").open("a") as file:
    file.write(kind)
if (folder.parents[1] / "broken").exists() and kind == "run":
    sys.exit("error: broken")
text = (folder / "config.toml").read_text() if (folder / "config.toml").exists() else ""
correct = "none" in text
item = {"kind": "k", "correct": correct}
if kind in ("base", "run"):
    step = 0 if kind == "base" else 2
    (folder / "evaluation").mkdir()
    scores = {"score": float(correct), "items": [item, item]}
    file = folder / "evaluation" / f"step-{step:06d}.json"
    file.write_text(json.dumps({"understanding": scores, "generation": scores}))
if kind == "run":
    outcome = {"seconds": 1.0, "steps": 2, "pairs": {"count": 3, "aligned": 1, "similarity": 0.5},
               "curves": {"understanding/reward": [0.1, 0.2]}}
    (folder / "outcome.json").write_text(json.dumps(outcome))
"""
RECIPES = Path(__file__).parents[2] / "recipes" / "ablations"


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.setattr(module, "python", lambda *words: [sys.executable, "-c", WORKER, *words])
    return Study.load(
        RECIPES / "weighting.toml", tmp_path, overrides=["--pairgrpo.steps=2"], seeds=2, rows=["none"]
    )


def starts(study: Study) -> dict[str, int]:
    """How often each part was started, but for builds."""
    return {path.parent.name: len(path.read_text()) for path in study.out.glob("*/*/started")}


def test_a_study_shares_pairs_and_first_scores_and_writes_results_and_page(study: Study) -> None:
    page = run_study(study, jobs=2, command="pairuni ablate")
    results = read_results(study.results_file)
    assert set(results) == {cell.key for cell in study.cells}
    assert {result.row for result in results.values()} == {"none", "sqrt s"}
    assert len(list((study.out / "base").iterdir())) == 2
    assert len(list((study.out / "data").iterdir())) == 2
    assert all(result.command == "pairuni ablate" for result in results.values())
    for result in results.values():
        assert (study.out / result.settings["data"]["pairs"]).is_file()
        assert not result.settings["data"]["pairs"].startswith("/")
    assert page == study.out / "weighting.html"
    assert "| none |" in page.with_suffix(".md").read_text()


def test_a_second_start_runs_nothing(study: Study, caplog: pytest.LogCaptureFixture) -> None:
    run_study(study, jobs=2)
    before = starts(study)
    with caplog.at_level(logging.INFO, "pairuni"):
        run_study(study, jobs=2)
    assert starts(study) == before
    assert "all 4 runs of weighting are finished" in caplog.text


def test_failed_runs_are_named_and_only_they_run_again(study: Study) -> None:
    first = Study(study.name, study.settings, study.cells[:1], study.out)
    run_study(first, jobs=1)
    (study.out / "broken").write_text("")
    with pytest.raises(PartFailed, match="'none', seed 1 failed: broken"):
        run_study(study, jobs=2)
    (study.out / "broken").unlink()
    before = starts(study)
    run_study(study, jobs=2)
    again = {name for name, count in starts(study).items() if count > before[name]}
    assert again == {cell.key for cell in study.cells[1:]}


def test_a_run_that_ended_after_its_study_was_killed_is_kept(study: Study) -> None:
    run_study(study, jobs=2)
    lines = study.results_file.read_text().splitlines(keepends=True)
    study.results_file.write_text("".join(lines[:-1]))
    before = starts(study)
    run_study(study, jobs=2)
    assert starts(study) == before
    assert sorted(map(json.dumps, map(json.loads, lines))) == sorted(
        map(json.dumps, map(json.loads, study.results_file.read_text().splitlines()))
    )

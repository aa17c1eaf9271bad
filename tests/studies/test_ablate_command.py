"""pairuni ablate from the study's file to its page, with real runs of the tiny model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pairuni.digits.questions import QUESTION_SETS
from warm_python import WarmPython

RECIPES = Path(__file__).parents[2] / "recipes" / "ablations"
STUDY = """
title = "Pair weight"
recipe = "run.toml"
pairs = "pairs.toml"
world = "relations"
samples = 30
default = "sqrt s"

[[rows]]
name = "none"
train.pairgrpo.pair_weight = "none"
paper = { GenEval = 0.79 }

[[rows]]
name = "sqrt s"
"""
SMALL = [
    *(
        "--pairgrpo.steps=2",
        "--pairgrpo.pairs-per-batch=2",
        "--rollout.understanding=2",
        "--rollout.generation=2",
    ),
    *("--evaluation.items=6", "--seeds", "1"),
]


def command(python: str, folder: Path, *options: str) -> list[str]:
    return [
        *(python, "-m", "pairuni", "ablate", str(folder / "study.toml")),
        *("--out", str(folder / "out"), "--jobs", "1", *SMALL, *options),
    ]


def results(folder: Path) -> list[dict[str, Any]]:
    path = folder / "out" / "results.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def study(tmp_path: Path) -> Path:
    (tmp_path / "study.toml").write_text(STUDY)
    (tmp_path / "run.toml").write_text((RECIPES / "relations.toml").read_text())
    text = (RECIPES / "relations_pairs.toml").read_text().replace("clusters = 450", "clusters = 10")
    (tmp_path / "pairs.toml").write_text(text)
    return tmp_path


def test_one_row_from_raw_data_to_the_table(study: Path, warm_python: WarmPython) -> None:
    done = subprocess.run(
        command(warm_python.python, study, "--row", "sqrt s"), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    [result] = results(study)
    assert (result["row"], result["seed"], result["steps"]) == ("sqrt s", 0, 2)
    assert len(result["curves"]["understanding/reward"]) == 2
    understanding = result["after"]["understanding"]
    assert len(understanding["items"]) == 6
    assert understanding["items"].count("1") / 6 == understanding["score"]
    assert set(understanding["by_kind"]) == {*QUESTION_SETS["relations"].kinds}
    assert result["settings"]["pairgrpo"]["pairs_per_batch"] == 2
    assert result["build"]["threshold"] == 0.6
    assert "--seeds 1 --row 'sqrt s'" in result["command"]
    assert (study / "out" / "study.md").read_text() in done.stdout
    page = (study / "out" / "study.html").read_text()
    assert result["key"] in page
    assert "<script>" in page


def test_a_row_that_a_study_lacks_is_named(study: Path, warm_python: WarmPython) -> None:
    done = subprocess.run(command(warm_python.python, study, "--row", "nine"), capture_output=True, text=True)
    assert done.returncode == 1
    assert "no row 'nine'" in done.stderr
    assert "sqrt s" in done.stderr


@pytest.mark.slow
def test_a_killed_study_repeats_no_finished_run(study: Path) -> None:
    killed = subprocess.Popen(
        command(sys.executable, study), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not results(study):
            assert killed.poll() is None, "the study ended before its first result"
            time.sleep(0.1)
    finally:
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
    [first] = results(study)
    done = study / "out" / "runs" / first["key"] / "outcome.json"
    ended = done.stat().st_mtime_ns
    again = subprocess.run(command(sys.executable, study), capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    kept, second = results(study)
    assert kept == first
    assert done.stat().st_mtime_ns == ended
    assert {first["row"], second["row"]} == {"none", "sqrt s"}
    assert first["before"] == second["before"]

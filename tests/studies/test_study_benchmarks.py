"""Benchmarks of a study's runs: which run, and how they stand in its table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pairuni.config import StudySettings, load_settings
from pairuni.evaluation.result import Result
from pairuni.studies.benchmarks import FOLDER, benchmark_part, check_suite, mean_score, read_scores
from pairuni.studies.results import RUNS
from pairuni.studies.tables import Differences, RowResults, results_table
from study_results import made_result

NO_DIFFERENCES: Differences = {"understanding": {}, "generation": {}}


def write_suite(folder: Path, *tasks: str) -> Path:
    path = folder / "suite.toml"
    path.write_text("".join(f'[{task}]\ndata = "{folder}"\n' for task in tasks))
    return path


def study_of(folder: Path, rows: list[dict[str, Any]]) -> StudySettings:
    text = 'title = "T"\nrecipe = "run.toml"\ndefault = "a"\n'
    for row in rows:
        paper = ", ".join(f'"{name}" = {value}' for name, value in row.get("paper", {}).items())
        text += f'[[rows]]\nname = "{row["name"]}"\npaper = {{ {paper} }}\n'
    (folder / "study.toml").write_text(text)
    return load_settings(StudySettings, folder / "study.toml")


def write_result(run: Path, benchmark: str, score: float, protocol: str = "official") -> None:
    folder = run / FOLDER / benchmark
    result = Result(
        benchmark=benchmark, protocol=protocol, score=score, unit="", interval=None, parts={}, counts={}
    )
    result.write(folder / f"{result.slug}.json")
    (run / FOLDER / "table.txt").write_text("")


@pytest.fixture
def study(tmp_path: Path) -> StudySettings:
    rows = [{"name": "a", "paper": {"MMMU": 38.2, "GenEval": 0.75}}, {"name": "b", "paper": {"MMMU": 40.0}}]
    return study_of(tmp_path, rows)


def test_only_benchmarks_with_figures_run(tmp_path: Path, study: StudySettings) -> None:
    suite = write_suite(tmp_path, "mmmu", "pope", "geneval")
    assert check_suite(suite, study) == [str(suite), "--tasks=mmmu,geneval"]
    assert check_suite(write_suite(tmp_path, "pope"), study) == [str(suite), "--tasks=pope"]
    part = benchmark_part("'a', seed 0", tmp_path / "run", [str(suite), "--tasks=mmmu"])
    (command,) = part.commands
    assert command[-5:] == [
        "all",
        str(suite),
        f"--model={tmp_path / 'run'}",
        f"--out={tmp_path / 'run' / FOLDER}",
        "--tasks=mmmu",
    ]
    suite.write_text('[mmmu]\ndata = "absent"\n')
    with pytest.raises(
        FileNotFoundError, match=r"absent: no such file or folder; .*suite.toml names it as mmmu.data"
    ):
        check_suite(suite, study)


def test_scores_have_the_papers_names_and_units(tmp_path: Path) -> None:
    assert read_scores(tmp_path) == {}
    write_result(tmp_path, "MMMU validation", 39.5)
    write_result(tmp_path, "MMMU validation", 20.0, "official, no random guess")
    write_result(tmp_path, "GenEval", 76.0, "official rules")
    write_result(tmp_path, "MMStar", 44.0, "official, partial (6 of 1,500)")
    scores = read_scores(tmp_path)
    assert scores == {"MMMU": 39.5, "MMStar": "44 (partial)", "GenEval": 0.76}
    more = {"MMMU": 40.5, "MMStar": 45.0}
    assert [mean_score([scores, more], name) for name in ("MMMU", "MMStar", "GenEval", "POPE")] == [
        "40",
        "44 (partial)",
        "0.76",
        "",
    ]


def test_the_table_has_them_before_the_papers_figures(tmp_path: Path, study: StudySettings) -> None:
    rows = [RowResults(row, {0: made_result(), 1: made_result(seed=1)}) for row in study.rows]
    head, first, _ = results_table(study, rows, NO_DIFFERENCES)
    assert head[:3] == ["T", "MMMU (paper)", "GenEval (paper)"]
    write_result(tmp_path / RUNS / "key-0", "MMMU validation", 39.0)
    write_result(tmp_path / RUNS / "key-1", "MMMU validation", 40.0)
    scores = [read_scores(tmp_path / RUNS / run.key) for run in rows[0].ordered]
    with_scores = [RowResults(study.rows[0], rows[0].runs, scores), rows[1]]
    head, first, second = results_table(study, with_scores, NO_DIFFERENCES)
    assert head[:4] == ["T", "MMMU", "MMMU (paper)", "GenEval (paper)"]
    assert first[:4] == ["a", "39.5", "38.2", "0.75"]
    assert second[:4] == ["b", "", "40", ""]
    assert len(first) == len(second) == len(head)

"""The tables of a study: scores, paired differences, what is bold, the paper's numbers."""

from __future__ import annotations

from pairuni.config import StudySettings
from pairuni.studies.page import html
from pairuni.studies.tables import RowResults, differences, gains, kinds, markdown, results_table
from study_results import made_result

STUDY = StudySettings.model_validate(
    {
        "title": "Made",
        "recipe": "run.toml",
        "default": "base",
        "rows": [
            {"name": "better", "paper": {"MMMU": 40.4, "GenEval": 0.79}},
            {"name": "<equal>"},
            {"name": "empty"},
            {"name": "base", "paper": {"MMMU": 38.4}},
        ],
    }
)
EVEN, ODD = [1, 0] * 50, [0, 1] * 50
ROWS = [
    RowResults(
        STUDY.rows[0], {seed: made_result(seed=seed, after=[1] * 100, generation=EVEN) for seed in range(3)}
    ),
    RowResults(
        STUDY.rows[1], {seed: made_result(seed=seed, after=ODD, generation=EVEN) for seed in range(3)}
    ),
    RowResults(STUDY.rows[2], {}),
    RowResults(
        STUDY.rows[3], {seed: made_result(seed=seed, after=EVEN, generation=EVEN) for seed in range(3)}
    ),
]


def test_the_table_has_the_papers_numbers_scores_and_paired_differences() -> None:
    head, better, equal, empty, base = results_table(STUDY, ROWS, differences(STUDY, ROWS))
    assert head[:4] == ["Made", "MMMU (paper)", "GenEval (paper)", "understanding"]
    assert better[:3] == ["better", "40.4", "0.79"]
    assert base[:3] == ["base", "38.4", ""]
    assert better[3] == "100.0 [100.0, 100.0]"
    assert better[4].startswith("**+50.0 [")
    assert better[6] == "0.0 [0.0, 0.0]"
    assert equal[4].startswith(("+0.0 [−", "0.0 [−"))
    assert base[4] == base[6] == ""
    assert empty == ["empty", *[""] * (len(head) - 2), "0"]
    assert [row[head.index("agreement")] for row in (better, base)] == ["+0.500", "+0.500"]


def test_gains_are_over_the_scores_before_training() -> None:
    assert gains(ROWS)[1] == ["better", "0.0, **+100.0 [+100.0, +100.0]**", gains(ROWS)[1][2]]
    assert gains(ROWS)[1][2].startswith("0.0, **+50.0")


def test_scores_by_kind_are_means_over_seeds() -> None:
    runs = {0: made_result(after=[1, 0]), 1: made_result(seed=1, after=[0, 0])}
    assert kinds([RowResults(STUDY.rows[0], runs)], "understanding") == [["row", "a"], ["better", "50.0"]]


def test_the_note_counts_runs_and_differences() -> None:
    text = markdown(STUDY, ROWS)
    assert "9 runs." in text
    assert "of 4 differences, 0.2 would be bold by chance" in text


def test_the_page_escapes_names() -> None:
    page = html(STUDY, ROWS)
    assert "&lt;equal&gt;" in page
    assert "<equal>" not in page
    assert page.count("<h2") == 7

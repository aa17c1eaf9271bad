"""MME: real replies of a model and its published scores; the reading of replies; files in and out."""

from pathlib import Path

import pytest

from pairuni.evaluation.protocols.mme import (
    COGNITION,
    PERCEPTION,
    Answered,
    read_answers,
    said,
    score,
    write_answers,
)


@pytest.mark.parametrize(
    ("reply", "meaning"),
    [
        ("Yes", "yes"),
        ("no", "no"),
        ("NO.", "no"),
        ("yes, there is", "yes"),
        ("A yes", "other"),
        (" Yes", "yes"),
        ("\nno way", "no"),
        ("Not sure", "no"),
        ("I know", "other"),
        ("", "other"),
        ("The answer is yes", "other"),
    ],
)
def test_the_first_four_characters(reply: str, meaning: str) -> None:
    assert said(reply) == meaning


def test_published_scores_of_lavin(benchmarks: Path) -> None:
    answers = read_answers(benchmarks / "mme" / "LaVIN")
    assert sum(len(answers[name]) for name in PERCEPTION) == 2114
    perception, cognition = score(answers), score(answers, cognition=True)
    assert perception.score == 963.6114445778312
    assert {name: round(value, 2) for name, value in perception.parts.items()} == {
        "existence": 185.0,
        "count": 88.33,
        "position": 63.33,
        "color": 75.0,
        "posters": 79.59,
        "celebrity": 47.35,
        "scene": 136.75,
        "landmark": 93.5,
        "artwork": 87.25,
        "OCR": 107.5,
    }
    assert cognition.score == 249.64285714285714
    assert tuple(cognition.parts) == COGNITION
    low, high = perception.interval
    assert 880 < low < perception.score < high < 1050


def test_files_are_read_as_written(benchmarks: Path, tmp_path: Path) -> None:
    answers = read_answers(benchmarks / "mme" / "LaVIN")
    write_answers(tmp_path, answers)
    assert score(read_answers(tmp_path)).score == 963.6114445778312
    rows = [Answered("a.jpg", "Is it?", "Yes", "yes\tand\nmore"), Answered("a.jpg", "Or not?", "No", "")]
    write_answers(tmp_path, {"existence": rows})
    assert (
        tmp_path / "existence.txt"
    ).read_text() == "a.jpg\tIs it?\tYes\tyes and more\na.jpg\tOr not?\tNo\t\n"
    assert [row.reply for row in read_answers(tmp_path)["existence"]] == ["yes and more", ""]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a.jpg\tIs it?\tYes\n", "line 1: expected image"),
        ("a.jpg\tIs it?\tYes\tyes\nb.jpg\tIs it?\tNo\tno\n", "line 2: the two questions"),
        ("a.jpg\tIs it?\tYes\tyes\n", "one question instead of two"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "OCR.txt").write_text(text)
    with pytest.raises(ValueError, match=rf"OCR.txt.*{reason}"):
        read_answers(tmp_path)


@pytest.mark.parametrize("reply", ["    Yes", "\nYes", "Y\tes", "no\r\nyes", "Yes, but  no"])
def test_what_is_written_scores_as_what_was_said(tmp_path: Path, reply: str) -> None:
    rows = [Answered("a.jpg", "Is it?", "Yes", reply), Answered("a.jpg", "Is it not?", "No", reply)]
    answers = dict.fromkeys(PERCEPTION, rows)
    write_answers(tmp_path, answers)
    assert score(read_answers(tmp_path)).parts == score(answers).parts


def test_a_missing_category_is_named() -> None:
    rows = [Answered("a.jpg", "Is it?", "Yes", "yes"), Answered("a.jpg", "Is it not?", "No", "yes")]
    answers = {name: rows for name in PERCEPTION if name != "OCR"}
    with pytest.raises(ValueError, match="missing: OCR"):
        score(answers)
    result = score(answers | {"OCR": rows})
    assert result.score == 10 * 50
    assert result.interval is None  # one image a category
    assert result.protocol == "official, partial (20 of 2,114)"

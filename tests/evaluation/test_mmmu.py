"""MMMU: 900 real replies of a model and their official score; the reading of replies by hand."""

import json
from pathlib import Path

import pytest

from pairuni.evaluation.protocols.mmmu import DOMAINS, read_outputs, score, write_outputs
from pairuni.evaluation.protocols.mmmu_replies import choice_in, is_right, normalised, values_in

OPTIONS = {"A": "red wine", "B": "green tea", "C": "a red wine glass", "D": "D"}


@pytest.mark.parametrize(
    ("reply", "choice"),
    [
        ("B", "B"),
        ("(B)", "B"),
        ("B.", "B"),
        ("'B'", "B"),
        ("The answer is (A), not (B)", "B"),
        ("A or B", "B"),
        ("(A) is better than B", "A"),
        ("I think B is it", "B"),
        ("b", None),
        ("A,B", None),
        ("green tea", None),  # five words or fewer: options' texts do not count
        ("I would say it is Green Tea", "B"),
        ("I would say green tea rather than red wine", "A"),
        ("one may well want a red wine glass", "A"),  # A's text stands later within C's own
        ("", None),
        ("Not one of the words of these options", None),
        ("surely a red wine glass", None),  # five words are too few for an option's text
        ("surely it is a red wine", "A"),
    ],
)
def test_choices(reply: str, choice: str | None) -> None:
    assert choice_in(reply, ["A", "B", "C"], {key: OPTIONS[key] for key in "ABC"}) == choice


def test_the_last_of_several_options_wins() -> None:
    assert choice_in("it is a red wine glass and then green tea", list("ABC"), OPTIONS | {"D": "zz"}) == "B"


@pytest.mark.parametrize(
    ("reply", "values"),
    [
        ("The answer is 12.5.", {12.5}),
        ("So the result is 1,234", {1234.0, 234.0}),  # a number after a comma counts too
        ("x = 3\nso x is 4 and y = 5", {5.0}),
        ("the sum is 12,345,678 dollars", {"12,345,678 dollars", 12345678.0, 678.0}),
        ("Paris", {"paris"}),
        ("it is ,", {"it is ,"}),  # a tail that is a mark is none
        ("it is .", {"it is"}),  # the edges go first, and "is" wants a space after it
        ("It could be x", {" x", "x "}),
        ("the value is 1.5e3 volts", {"1.5e3 volts", 1500.0, 1.0, 3.0}),
    ],
)
def test_open_replies(reply: str, values: set[str | float]) -> None:
    assert values_in(reply) == values


def test_numbers_and_words_are_compared_as_what_they_are() -> None:
    assert normalised(" 1,000.456 ") == [1000.46]
    assert normalised("C") == [" c", "c "]
    assert is_right({"the mgs compound"}, ["$MgS$", "MgS"])
    assert not is_right({"compound"}, ["$MgS$", "MgS"])
    assert is_right({12.97, "some words"}, "12.97")
    assert not is_right({"12.97 and more"}, "12.97")  # a number is in words only as a number
    assert not is_right({"transform"}, "Transformation")


def test_the_official_score_of_qwen_vl(benchmarks: Path, tmp_path: Path) -> None:
    outputs = read_outputs(benchmarks / "mmmu" / "qwen_vl")
    official, plain = score(outputs), score(outputs, guess=False)
    assert (official.counts["right"], official.counts["all"]) == (325, 900)
    assert round(official.score, 2) == 36.11
    assert (official.protocol, plain.protocol) == ("official", "official, no random guess")
    assert plain.counts["no choice found"] == official.counts["no choice found"] > 0
    assert plain.counts["right"] < official.counts["right"]
    assert sum(official.counts[name] for name in DOMAINS) == 900
    low, high = official.interval
    assert 32 < low < official.score < high < 40
    write_outputs(tmp_path, outputs)
    assert score(read_outputs(tmp_path)).score == official.score


def test_every_choice_of_qwen_vl_is_the_one_that_the_official_parser_took(benchmarks: Path) -> None:
    official = json.loads((benchmarks / "mmmu" / "qwen_vl" / "total_val_output.json").read_text())
    rows = [row for rows in read_outputs(benchmarks / "mmmu" / "qwen_vl").values() for row in rows]
    compared = 0
    for row in rows:
        if row["question_type"] == "multiple-choice":
            choice = choice_in(row["response"], row["all_choices"], row["index2ans"])
            if choice is not None:
                assert official[row["id"]] == choice, row["id"]
                compared += 1
    assert compared > 700


def test_the_right_replies_are_all_right() -> None:
    rows = [
        {"id": "1", "question_type": "multiple-choice", "answer": "B", "response": "(B)"}
        | {"all_choices": ["A", "B"], "index2ans": {"A": "x", "B": "y"}},
        {
            "id": "2",
            "question_type": "short-answer",
            "answer": ["24/7", "3.429"],
            "response": "so it is 3.43",
        },
    ]
    assert score({"Math": rows}).score == 100
    with pytest.raises(ValueError, match="no subject Maths"):
        score({"Maths": rows})

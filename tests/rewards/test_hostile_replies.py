"""No reply raises an error, and the time is linear in its length."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairuni.records import Annotation
from pairuni.rewards.answers import formulas
from pairuni.rewards.answers.accuracy import AccuracyReward, answers_match
from pairuni.rewards.answers.final_answer import final_answer
from pairuni.rewards.answers.options import parse_options

SHIRT = "What is on the shirt? A. Stripes B. Polka dots C. Dots D. No pattern"
QUESTIONS = [
    (SHIRT, "B"),
    ("How many?", "3"),
    ("How heavy?", "5 kg"),
    ("Is it?", "no"),
    ("Which?", "Figure 2"),
]
PIECES = [
    "\\boxed{", "{", "}", "<answer>", "</answer>", "<think>", "</think>", "A", "A ", "A. ", "A, ", "(a) ",
    "polka dots ", "dots ", "stripes dots ", "the answer is B. ", "answer:", "answer is ", "not ", "isn't ",
    "is wrong, ", "A is not ", "9", "9 ", "9.", "1,000", "1,000,", ",000", "1:", "1-", "1/", "3 to ", "-",
    "- ", "--> ", "two hundred ", "hundred ", "minus ", "one ", "½", "²", "^", "$", "$x$ ", "$x+1", "\\(",
    "\\[", "\\text{", "\\,", "[", "(", "[(", " ", "\n", " \n", "\t", "5 kg ", "km per ", "km/", "square ",
    "yes ", "no ", "no, ", "because ", "or ", "but ", "? no", "more than ", "at least ", "Figure 2 ",
    "I is ", "a.b.", "’", "don't ", "\ufdfa", "①", "Ａ", "红色", "٣", "\ud800", "\0", "<|channel|>",
    " is the answer ", "B is correct ", "so ", "so, ", "a = ", "= ", "left of ", "三只", "是 ", "angle B = 7 ",
]  # fmt: skip
LENGTHS = [
    pytest.param(number, length, id=f"{piece!r}-{length}", marks=[pytest.mark.slow] if is_slow else [])
    for number, piece in enumerate(PIECES)
    for length, is_slow in ((4_000, False), (24_000, number % 8 > 0))
]
"""Every piece in short texts, where exponential time shows, and some in long ones, where quadratic time shows."""


def repeated(piece: str, length: int) -> str:
    return piece * (length // len(piece.encode(errors="surrogatepass")))


@pytest.mark.parametrize(("number", "length"), LENGTHS)
def test_long_hostile_replies_end(number: int, length: int) -> None:
    body = repeated(PIECES[number], length)
    began = time.monotonic()
    for form, (question, truth) in zip(
        ("{}", "3 {} kg", "A. {}B"), (QUESTIONS * 2)[number % 5 :], strict=False
    ):
        answers_match(question, truth, form.replace("{}", body))
    assert time.monotonic() - began < 15  # 0.3 s on a quiet machine; quadratic time would be half a minute


@pytest.mark.parametrize("piece", ["A. ", "a) ", "A. B. ", "(", "A", "\n", " "])
def test_long_hostile_questions_end(piece: str) -> None:
    began = time.monotonic()
    parse_options(repeated(piece, 24_000))
    assert time.monotonic() - began < 30


REPLIES = st.one_of(
    st.text(max_size=60), st.lists(st.sampled_from([*PIECES, *"0123456789", "kg"]), max_size=12).map("".join)
)


@settings(max_examples=200, deadline=None)
@given(REPLIES, st.one_of(st.sampled_from([truth for _, truth in QUESTIONS]), REPLIES))
def test_no_reply_and_no_truth_raises(reply: str, truth: str) -> None:
    compare = formulas._comparer.equal
    formulas._comparer.equal = lambda *_, seconds: False  # type: ignore[method-assign]
    try:
        for question in (SHIRT, "How many?", reply):
            assert answers_match(question, truth, reply) in (True, False)
    finally:
        formulas._comparer.equal = compare  # type: ignore[method-assign]


@settings(max_examples=100, deadline=None)
@given(REPLIES)
def test_a_truth_is_its_own_answer(truth: str) -> None:
    if final_answer(truth):
        assert answers_match("How many?", truth, truth)


@pytest.mark.parametrize("digits", [401, 4_300, 4_301, 20_000])
def test_numbers_of_any_length_are_compared_or_wrong(digits: int) -> None:
    long = "7" * digits
    for reply in (
        long,
        f"-{long}",
        f"{long}.5",
        f"0.{long}",
        f"1/{long}",
        f"{long}/3",
        f"1e{long}",
        f"3 and {long}",
    ):
        assert not answers_match("How many?", "3", reply)
        assert not answers_match("How many?", "77 kg", reply)
        assert answers_match("How many?", reply, reply)
    assert not answers_match("How many?", long, "3")


def test_a_batch_of_formulas_that_never_end_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert answers_match("What is it?", "x+1", "$1+x$")
    monkeypatch.setattr(formulas, "SECONDS", 0.25)
    monkeypatch.setattr(formulas, "BATCH_SECONDS", 1.0)
    asked: list[str] = []
    compare = formulas._comparer.equal

    def counted(truth: str, given: str, *, seconds: float) -> bool | None:
        asked.append(given)
        return compare(truth, given, seconds=seconds)

    monkeypatch.setattr(formulas._comparer, "equal", counted)
    record = Annotation(image_path="x.png", prompt="p", question="What is it?", answer="7")
    replies = ["$9^{9^{9}}$", "$8^{9^{9}}$"] * 20
    assert AccuracyReward()([record] * len(replies), replies) == [0.0] * len(replies)
    assert asked.count("9^{9^{9}}") == asked.count("8^{9^{9}}") == 1
    asked.clear()
    replies = [f"${base}^{{9^{{9}}}}$" for base in range(2, 40)]
    assert AccuracyReward()([record] * len(replies), replies) == [0.0] * len(replies)
    assert 2 < len(asked) < 10
    monkeypatch.setattr(formulas, "SECONDS", 30.0)
    assert AccuracyReward()([record], [r"$\frac{14}{2}$"]) == [1.0]  # the next batch has its own time


def test_an_answer_with_many_formulas_has_no_result() -> None:
    many = " ".join(f"$x+{number}-{number - 1}$" for number in range(1, 30))
    assert not answers_match("What is it?", "x+1", many)

"""The reward accuracy beyond the table of replies (replies.tsv): all letters, options, batches."""

import pytest

from pairuni.records import Annotation
from pairuni.rewards.answers.accuracy import AccuracyReward, answers_match
from pairuni.rewards.answers.final_answer import final_answer
from pairuni.rewards.answers.options import parse_options
from pairuni.rewards.answers.tokens import normalise

SUFFIX = "Answer with the options letter from the given choices directly."
PATTERN = f"What is on the shirt? A. Stripes B. Polka dots C. Dots D. No pattern {SUFFIX}"
HEDGES = (
    "{right} or {wrong}",
    "{wrong} or {right}",
    "{right} and {wrong}",
    "The answer is {right} or {wrong}",
    "{right} or {wrong} or maybe",
    "{right}{wrong}",
    "Not {right}",
    "It is not {right}",
    "It isn't {right}.",
    "anything but {right}",
    "The answer is not {right}",
    "none of {right}",
    "neither {right} nor {wrong}",
)
"""Replies that do not name one letter, or that deny the right one."""

CLAIMS = (
    "{right} is correct because of the shirt",
    "{right} and nothing else",
    "not {wrong}, but {right}",
    "It isn't {wrong}; it is {right}",
    "I am not sure, {right}",
    "The answer is not {wrong}. The answer is {right}",
)


@pytest.mark.parametrize("truth", "ABCD")
def test_hedges_and_denials_are_wrong_and_claims_right_for_every_letter(truth: str) -> None:
    for wrong in set("ABCD") - {truth}:
        for reply in HEDGES:
            assert not answers_match(PATTERN, truth, reply.format(right=truth, wrong=wrong)), (reply, wrong)
        for reply in CLAIMS:
            assert answers_match(PATTERN, truth, reply.format(right=truth, wrong=wrong)), (reply, wrong)


@pytest.mark.parametrize(
    ("question", "options"),
    [
        (PATTERN, {"A": "Stripes", "B": "Polka dots", "C": "Dots", "D": "No pattern"}),
        ("Which?\nOptions: A: On the book., B: Under it.", {"A": "On the book", "B": "Under it"}),
        ("Which?\n(A) red\n(B) blue\n\nAnswer with the letter.", {"A": "red", "B": "blue"}),
        ("Does the U.S. A. team win?", {}),
        ("Given point A. What is B. A. 1 B. 2 C. 3", {"A": "1", "B": "2", "C": "3"}),
        ("How many?", {}),
    ],
)
def test_options_of_a_question(question: str, options: dict[str, str]) -> None:
    assert parse_options(question) == options


def test_final_answer_takes_the_last_tag() -> None:
    assert final_answer("<answer>x</answer><answer> y </answer>") == "y"


def test_normalise_joins_number_words() -> None:
    assert normalise("The  Forty-Two  cats!") == "42 cats"
    assert normalise("twenty zero one two") == "20 0 1 2"


def test_reward_scores_each_sample() -> None:
    record = Annotation(image_path="x.png", prompt="p", question=PATTERN, answer="A")
    reward = AccuracyReward()
    assert reward.name == "accuracy"
    assert reward([record, record], ["A", "B"]) == [1.0, 0.0]
    with pytest.raises(ValueError, match="2 records but 1"):
        reward([record, record], ["A"])

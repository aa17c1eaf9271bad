import pytest

from pairuni.records import Annotation
from pairuni.rewards.answers.accuracy import AccuracyReward, answers_match
from pairuni.rewards.answers.final_answer import final_answer
from pairuni.rewards.answers.options import parse_options
from pairuni.rewards.answers.tokens import normalise

SUFFIX = "Answer with the options letter from the given choices directly."
PATTERN = f"What is on the shirt? A. Stripes B. Polka dots C. Dots D. No pattern {SUFFIX}"
DIGIT = f"which digit is top left? A. three B. seven C. zero D. nine {SUFFIX}"

MULTIPLE_CHOICE = [
    # question, truth, reply, right
    (PATTERN, "A", "A", True),
    (PATTERN, "A", "a", True),
    (PATTERN, "A", " A.", True),
    (PATTERN, "A", "(A)", True),
    (PATTERN, "A", "(a)", True),
    (PATTERN, "A", "**A**", True),
    (PATTERN, "A", "**A.** Stripes", True),
    (PATTERN, "A", "[A]", True),
    (PATTERN, "A", "A)", True),
    (PATTERN, "A", "A. Stripes", True),
    (PATTERN, "A", "A: stripes", True),
    (PATTERN, "A", "a. stripes", True),
    (PATTERN, "A", "Stripes", True),
    (PATTERN, "A", "stripes.", True),
    (PATTERN, "A", "The answer is A", True),
    (PATTERN, "A", "The answer is A.", True),
    (PATTERN, "A", "The correct answer is (A) Stripes.", True),
    (PATTERN, "A", "Answer: A", True),
    (PATTERN, "A", "Option A", True),
    (PATTERN, "A", "the answer is a", True),
    (PATTERN, "A", "The shirt shows stripes", True),
    (PATTERN, "A", "<think>Not B, not C.</think><answer>A</answer>", True),
    (PATTERN, "A", "<think>B?</think>\n<answer> A. Stripes </answer>\n", True),
    (PATTERN, "A", "<answer>B</answer> wait <answer>A</answer>", True),
    (PATTERN, "A", "<think>hm</think><answer>A", True),
    (PATTERN, "A", r"So \boxed{A}", True),
    (PATTERN, "A", "I think B is wrong: look at the seams.\nThe answer is A", True),
    (PATTERN, "B", "polka dots", True),
    (PATTERN, "B", "These are polka dots.", True),
    (PATTERN, "C", "dots", True),
    (PATTERN, "B. Polka dots", "B", True),
    (PATTERN, "Polka dots", "B", True),
    (PATTERN, "(B)", "polka dots", True),
    (DIGIT, "B", "seven", True),
    (DIGIT, "B", "7", True),
    (DIGIT, "B", "It is a seven", True),
    ("Pick one.\nA: a cat, B: a dog\n", "A", "a cat", True),
    ("Which letter has the tallest bar?", "C", "C.", True),
    (PATTERN, "A", "B", False),
    (PATTERN, "A", "", False),
    (PATTERN, "A", "A and B", False),
    (PATTERN, "A", "A or B", False),
    (PATTERN, "A", "A, B, C, D", False),
    (PATTERN, "A", "ABCD", False),
    (PATTERN, "A", "A B", False),
    (PATTERN, "A", "The answer is A. The answer is B.", False),
    (PATTERN, "A", "The answer is A or B", False),
    (PATTERN, "A", "A. Polka dots", False),
    (PATTERN, "A", "A man in a shirt", False),
    (PATTERN, "A", "Stripes and polka dots", False),
    (PATTERN, "A", "<think>surely A", False),
    (PATTERN, "A", "<think>A</think><answer>B</answer>", False),
    (PATTERN, "A", "<think>A</think>", False),
    (PATTERN, "A", "<answer></answer>A", False),
    (PATTERN, "C", "polka dots", False),
    (DIGIT, "B", "seventy", False),
    (DIGIT, "B", "three seven", False),
]

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

SEVERAL = "Which are animals? A. cat B. dog C. spoon"
NEGATIVE = "What is it? A. −5 B. 5"
BOTH = "Which? A. cat B. dog C. Both A and B"
NONE = "Which? A. red B. blue C. None of the above"

ODD_CHOICES = [
    (SEVERAL, "A, B", "A, B", True),
    (SEVERAL, "A, B", "B and A", True),
    (SEVERAL, "AB", "A, B", True),
    (SEVERAL, "A, B", "cat and dog", True),
    (SEVERAL, "A, B", "B", False),
    (SEVERAL, "A, B", "A, B, C", False),
    ("Which letters are tall?", "A, C", "C, A", True),
    ("Which letters are tall?", "A, C", "C", False),
    (NEGATIVE, "A", "−5", True),
    (NEGATIVE, "A", "-5", True),
    (NEGATIVE, "B", "−5", False),
    (BOTH, "C", "Both A and B", True),
    (NONE, "C", "It is none of the above", True),
    ("Operator? A. + B. -", "A", "+", True),
    ("Operator? A. + B. -", "B", "+", False),
    (PATTERN, "B", "It is not polka dots", False),
    (PATTERN, "C", "It is not polka dots", False),
    (PATTERN, "A", "These are stripes, not dots.", True),
    (PATTERN, "D", "There is no pattern", True),
]

OPEN = [
    ("seven", "7", True),
    ("7", "seven", True),
    ("7", "7.0", True),
    ("7", "Seven.", True),
    ("42", "forty-two", True),
    ("1000", "1,000", True),
    ("0.5", "1/2", True),
    ("-3", "minus 3", True),
    ("-3", "-3", True),
    ("seven", "There are seven digits.", True),
    ("seven", "the answer is seven", True),
    ("red", "Red", True),
    ("red", "It is red.", True),
    ("red", "The colour is red", True),
    ("top left", "Top-left", True),
    ("top left", "in the end: <answer>top left</answer>", True),
    ("the cat", "A cat", True),
    ("yes", "Yes, there is a dog.", True),
    ("no", "No.", True),
    ("50%", "50 %", True),
    ("seven", "eight", False),
    ("7", "17", False),
    ("7", "7 or 8", False),
    ("3", "-3", False),
    ("7", "-7", False),
    ("no", "on", False),
    ("no", "not sure, yes", False),
    ("yes", "yes and no", False),
    ("eat", "tea", False),
    ("light blue", "blue light", False),
    ("red", "red blue green", False),
    ("red", "It is not red", False),
    ("red", "infrared", False),
    ("dog", "There is no dog", False),
    ("top left", "left", False),
    ("cat", "a", False),
    ("cat", "the", False),
    ("7", "1/0", False),
    ("5", "5, not 6", True),
    ("5", "not 5", False),
    ("yes", "not yes", False),
    ("no", "No, there is not.", True),
    ("+", "The answer is +", True),
    ("+", "-", False),
    ("★", "☆", False),
    ("a", "the", False),
    ("-5", "−5", True),
    ("5", "−5", False),
    ("1/2", "½", True),
    ("2/3", "two thirds", True),
    ("2", "two thirds", False),
    ("100", "one hundred", True),
    ("1", "one hundred", False),
    ("2300", "two thousand three hundred", True),
    ("205000", "two hundred and five thousand", True),
    ("3 million", "three million", True),
    ("3000000", "3 million", True),
    ("20 g", "It weighs 20 g", True),
    ("10 N", "10 newtons", True),
    ("90°", r"$90^\circ$", True),
    ("DC", "CD", False),
    (r"\boxed{orange}", r"so \boxed{orange}", True),
    ("<answer>5</answer>", "five", True),
]


@pytest.mark.parametrize(("question", "truth", "reply", "right"), MULTIPLE_CHOICE)
def test_multiple_choice(question: str, truth: str, reply: str, right: bool) -> None:
    assert answers_match(question, truth, reply) is right


@pytest.mark.parametrize("truth", "ABCD")
def test_hedges_and_denials_are_wrong_and_claims_right_whatever_the_letter(truth: str) -> None:
    for wrong in set("ABCD") - {truth}:
        for reply in HEDGES:
            assert not answers_match(PATTERN, truth, reply.format(right=truth, wrong=wrong)), (reply, wrong)
        for reply in CLAIMS:
            assert answers_match(PATTERN, truth, reply.format(right=truth, wrong=wrong)), (reply, wrong)


@pytest.mark.parametrize(("question", "truth", "reply", "right"), ODD_CHOICES)
def test_several_letters_denials_and_odd_options(question: str, truth: str, reply: str, right: bool) -> None:
    assert answers_match(question, truth, reply) is right


@pytest.mark.parametrize(("truth", "reply", "right"), OPEN)
def test_open_answers(truth: str, reply: str, right: bool) -> None:
    assert answers_match("What do you see?", truth, reply) is right


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

"""Questions about a scene, with short open answers or lettered options."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from pairuni.digits.language import DIGITS, NUMBERS, PLURALS, RELATIONS
from pairuni.digits.prompts import related
from pairuni.digits.scenes import COLOURS, PLACES, Scene

QuestionKind = Literal["read", "count", "colour", "place", "add", "related digit", "related colour"]

LETTERS = "ABCD"
LETTER_SUFFIX = "Answer with the options letter from the given choices directly."
"""How a multiple-choice question ends in PairUG's released data."""


@dataclass(frozen=True)
class QuestionSet:
    """kinds: asked equally often; multiple_choice: share of questions with lettered options."""

    kinds: tuple[QuestionKind, ...]
    multiple_choice: float


QUESTION_KINDS: tuple[QuestionKind, ...] = ("read", "count", "colour", "place", "add")
STANDARD = QuestionSet(QUESTION_KINDS, multiple_choice=0.5)
"""What the tiny model was pretrained on, and what the demo trains and evaluates."""
OPEN_RELATIONS = QuestionSet(
    ("read", "count", "colour", "place", "related digit", "related colour"), multiple_choice=0.0
)
"""Open questions about what prompts state: digits, numbers, colours, places and relations of two things."""
QUESTION_SETS = {"digits": STANDARD, "relations": OPEN_RELATIONS}


@dataclass(frozen=True)
class Question:
    """text: the question, options included; answer: the open answer or the option's letter."""

    kind: QuestionKind
    text: str
    answer: str


@dataclass(frozen=True)
class OpenQuestion:
    """A question with its open answer and the domain of answers, from which wrong options are sampled."""

    kind: QuestionKind
    text: str
    answer: str
    domain: tuple[str, ...]


def open_questions(scene: Scene) -> dict[str, OpenQuestion]:
    """Every question that has exactly one answer in the scene, by its text."""
    return {
        text: OpenQuestion(kind, text, answer, tuple(domain))
        for kind in get_args(QuestionKind)
        for text, answer, domain in _ask(scene, kind)
    }


def without_options(text: str, answer: str) -> tuple[str, str]:
    """The open form of a question and its answer: without options, the letter replaced by its option.

    Raises ValueError if the answer is not the letter of an option.
    """
    if not text.endswith(LETTER_SUFFIX):
        return text, answer
    asked, _, listed = text.removesuffix(LETTER_SUFFIX).strip().partition(f" {LETTERS[0]}. ")
    options = re.split(rf" [{LETTERS[1:]}]\. ", listed)
    by_letter = dict(zip(LETTERS, options, strict=False))
    if answer not in by_letter:
        raise ValueError(f"the answer {answer!r} is none of the letters of {text!r}")
    return asked, by_letter[answer]


def random_question(
    rng: np.random.Generator, scene: Scene, kind: QuestionKind, multiple_choice: bool
) -> Question | None:
    """A question of this kind that has exactly one answer in the scene, or None if there is none."""
    candidates = [OpenQuestion(kind, *asked) for asked in _ask(scene, kind)]
    if not candidates:
        return None
    return put(rng, candidates[rng.integers(len(candidates))], multiple_choice)


def put(rng: np.random.Generator, question: OpenQuestion, multiple_choice: bool) -> Question:
    """An open question as text, with lettered options in random order if ``multiple_choice``."""
    if multiple_choice:
        return _with_options(rng, question)
    return Question(question.kind, question.text, question.answer)


def _with_options(rng: np.random.Generator, question: OpenQuestion) -> Question:
    others = [answer for answer in question.domain if answer != question.answer]
    wrong = [str(w) for w in rng.permutation(others)[: len(LETTERS) - 1]]
    position = int(rng.integers(len(wrong) + 1))
    options = [*wrong[:position], question.answer, *wrong[position:]]
    listed = " ".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))
    return Question(question.kind, f"{question.text} {listed} {LETTER_SUFFIX}", LETTERS[position])


def _ask(scene: Scene, kind: QuestionKind) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(text, answer, domain of answers) of each question of this kind with exactly one answer in the scene."""
    things = scene.things
    digits, colours = Counter(t.digit for t in things), Counter(t.colour for t in things)
    if kind == "read":
        for t in things:
            yield f"which digit is {t.place}?", DIGITS[t.digit], DIGITS
            if colours[t.colour] == 1:
                yield f"which digit is {t.colour}?", DIGITS[t.digit], DIGITS
    elif kind == "count":
        numbers = NUMBERS[:5]
        yield "how many digits are there?", NUMBERS[len(things)], numbers[1:]
        for colour in COLOURS:
            yield f"how many digits are {colour}?", NUMBERS[colours[colour]], numbers
        for digit in digits:
            yield f"how many {PLURALS[digit]} are there?", NUMBERS[digits[digit]], numbers[1:]
    elif kind == "colour":
        for t in things:
            yield f"what colour is the digit {t.place}?", t.colour, tuple(COLOURS)
            if digits[t.digit] == 1:
                yield f"what colour is the {DIGITS[t.digit]}?", t.colour, tuple(COLOURS)
    elif kind == "place":
        for t in things:
            if digits[t.digit] == 1:
                yield f"where is the {DIGITS[t.digit]}?", t.place, tuple(PLACES)
            if colours[t.colour] == 1:
                yield f"where is the {t.colour} digit?", t.place, tuple(PLACES)
    elif kind == "related digit" or kind == "related colour":
        for anchor in things:
            for relation in RELATIONS if digits[anchor.digit] == 1 else ():
                found = [t for t in things if t is not anchor and related(relation, t.place, anchor.place)]
                if len(found) != 1:
                    continue
                where = f"{relation} the {DIGITS[anchor.digit]}?"
                if kind == "related digit":
                    yield f"which digit is {where}", DIGITS[found[0].digit], DIGITS
                else:
                    yield f"what colour is the digit {where}", found[0].colour, tuple(COLOURS)
    elif len(things) == 2:
        yield "what is the sum of the digits?", NUMBERS[sum(t.digit for t in things)], NUMBERS

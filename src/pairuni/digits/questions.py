"""Understanding questions of five kinds with short open answers or lettered options."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from pairuni.digits.language import DIGITS, NUMBERS, PLURALS
from pairuni.digits.scenes import COLOURS, PLACES, Scene

QuestionKind = Literal["read", "count", "colour", "place", "add"]
QUESTION_KINDS: tuple[QuestionKind, ...] = get_args(QuestionKind)

LETTERS = "ABCD"
LETTER_SUFFIX = "Answer with the options letter from the given choices directly."
"""How a multiple-choice question ends in PairUG's released data."""


@dataclass(frozen=True)
class Question:
    """text: the question, options included; answer: the open answer or the option's letter."""

    kind: QuestionKind
    text: str
    answer: str


def random_question(
    rng: np.random.Generator, scene: Scene, kind: QuestionKind, multiple_choice: bool
) -> Question | None:
    """A question of one kind that the scene answers without doubt, or None when the scene has none."""
    candidates = list(_ask(scene, kind))
    if not candidates:
        return None
    text, answer, domain = candidates[rng.integers(len(candidates))]
    if multiple_choice:
        return _with_options(rng, Question(kind, text, answer), domain)
    return Question(kind, text, answer)


def _with_options(rng: np.random.Generator, question: Question, domain: list[str]) -> Question:
    wrong = [str(w) for w in rng.permutation([d for d in domain if d != question.answer])[: len(LETTERS) - 1]]
    position = int(rng.integers(len(wrong) + 1))
    options = [*wrong[:position], question.answer, *wrong[position:]]
    listed = " ".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))
    return Question(question.kind, f"{question.text} {listed} {LETTER_SUFFIX}", LETTERS[position])


def _ask(scene: Scene, kind: QuestionKind) -> Iterator[tuple[str, str, list[str]]]:
    """All (text, answer, answers of the same sort) of one kind that this scene answers."""
    things = scene.things
    digits, colours = Counter(t.digit for t in things), Counter(t.colour for t in things)
    if kind == "read":
        for t in things:
            yield f"which digit is {t.place}?", DIGITS[t.digit], list(DIGITS)
            if colours[t.colour] == 1:
                yield f"which digit is {t.colour}?", DIGITS[t.digit], list(DIGITS)
    elif kind == "count":
        numbers = list(NUMBERS[:5])
        yield "how many digits are there?", NUMBERS[len(things)], numbers[1:]
        for colour in COLOURS:
            yield f"how many digits are {colour}?", NUMBERS[colours[colour]], numbers
        for digit in digits:
            yield f"how many {PLURALS[digit]} are there?", NUMBERS[digits[digit]], numbers[1:]
    elif kind == "colour":
        for t in things:
            yield f"what colour is the digit {t.place}?", t.colour, list(COLOURS)
            if digits[t.digit] == 1:
                yield f"what colour is the {DIGITS[t.digit]}?", t.colour, list(COLOURS)
    elif kind == "place":
        for t in things:
            if digits[t.digit] == 1:
                yield f"where is the {DIGITS[t.digit]}?", t.place, list(PLACES)
            if colours[t.colour] == 1:
                yield f"where is the {t.colour} digit?", t.place, list(PLACES)
    elif len(things) == 2:
        yield "what is the sum of the digits?", NUMBERS[sum(t.digit for t in things)], list(NUMBERS)

"""What the tiny models learn: a curriculum of descriptions, questions and prompts of training scenes.

Captions come before questions, because accuracy on colours stays at chance for long with questions alone. Open answers
come before option letters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pairuni.digits.language import caption, sentence
from pairuni.digits.prompts import PROMPT_KINDS, random_request
from pairuni.digits.questions import QUESTION_KINDS, Question, random_question, without_options
from pairuni.digits.scenes import Scene, random_scene

DESCRIBE = "describe the picture."

Role = Literal["question", "answer", "prompt"]


@dataclass(frozen=True)
class Stage:
    """A stage of the curriculum: images of at most ``things`` things.

    describe: share of text examples that describe the image; choose: share of questions with options;
    letter: share of those whose reply adds the option's letter to its words.
    """

    name: str
    steps: int
    things: int
    describe: float
    choose: float
    letter: float


def exercise(rng: np.random.Generator, scene: Scene, stage: Stage) -> tuple[str, str]:
    """A question about the scene, or the request to describe it, and the target reply."""
    if rng.random() < stage.describe:
        return DESCRIBE, caption(scene)
    asked = None
    while asked is None:
        kind = QUESTION_KINDS[rng.integers(len(QUESTION_KINDS))]
        asked = random_question(rng, scene, kind, multiple_choice=rng.random() < stage.choose)
    return asked.text, taught_reply(asked, letter=rng.random() < stage.letter)


def taught_reply(question: Question, letter: bool) -> str:
    """The target reply: the answer in words; for a question with options, optionally also its letter.

    In the tiny Janus, the model learns to name the correct option, but letters stay at chance.
    """
    _, words = without_options(question.text, question.answer)
    return f"{words}. {question.answer}" if letter and words != question.answer else words


def corpus(seed: int, size: int = 4000) -> Iterator[tuple[Role, str]]:
    """Texts of all kinds in the digits world with their role, to train a tokenizer on."""
    rng = np.random.default_rng(seed)
    for row in range(size):
        scene = random_scene(rng, "train")
        yield "answer", caption(scene)
        yield "question", DESCRIBE
        yield "prompt", sentence(random_request(rng, PROMPT_KINDS[row % len(PROMPT_KINDS)], "train"))
        kind = QUESTION_KINDS[row % len(QUESTION_KINDS)]
        if question := random_question(rng, scene, kind, multiple_choice=row % 2 == 0):
            yield "question", question.text
            yield "answer", question.answer

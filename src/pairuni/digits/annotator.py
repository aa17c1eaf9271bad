"""Completes samples of the digits world from their scene descriptions, where the paper uses GPT-o3."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np

from pairuni.digits.language import NUMBERS, Request, caption, parse, sentence
from pairuni.digits.prompts import all_scenes, satisfies
from pairuni.digits.questions import (
    OPEN_RELATIONS,
    STANDARD,
    OpenQuestion,
    open_questions,
    put,
    without_options,
)
from pairuni.digits.scenes import Scene
from pairuni.records import GenerationSample, Quadruple, Record, UnderstandingSample, Verdict


class SceneAnnotator:
    """Reads the ``scene`` key of each record, and verifies quadruples as in the paper's loop."""

    questions = STANDARD

    def caption(self, sample: UnderstandingSample, feedback: str | None) -> str:
        """Everything that the scene shows, so that the caption answers every question about it."""
        return caption(scene_of(sample))

    def question(self, sample: GenerationSample, feedback: str | None) -> tuple[str, str]:
        """A question about the things that the prompt names; ``feedback`` changes the choice."""
        rng = _rng(sample.id, feedback or "")
        candidates = [
            question
            for question in answerable(parse(sample.prompt))
            if question.kind in self.questions.kinds and not _counts_nothing(question)
        ]
        kinds = list(dict.fromkeys(question.kind for question in candidates))
        kind = kinds[rng.integers(len(kinds))]
        of_kind = [question for question in candidates if question.kind == kind]
        question = put(
            rng, of_kind[rng.integers(len(of_kind))], bool(rng.random() < self.questions.multiple_choice)
        )
        return question.text, question.answer

    def verify(self, quadruple: Quadruple) -> Verdict:
        """Whether the image shows the caption and the answer follows from the caption alone."""
        try:
            request = parse(quadruple.prompt)
        except ValueError as error:
            return Verdict(ok=False, reason=str(error))
        if not satisfies(scene_of(quadruple), request):
            return Verdict(ok=False, reason=f"the picture does not show {quadruple.prompt!r}")
        try:
            text, answer = without_options(quadruple.question, quadruple.answer)
        except ValueError as error:
            return Verdict(ok=False, reason=str(error))
        known = {question.text: question.answer for question in answerable(request)}
        if text not in known:
            return Verdict(ok=False, reason=f"{quadruple.prompt!r} does not answer {text!r}")
        if known[text] != answer:
            return Verdict(ok=False, reason=f"{text!r} is answered by {known[text]!r}, not {answer!r}")
        return Verdict(ok=True)


class RelationsAnnotator(SceneAnnotator):
    """Asks open questions, also about the relations of two things."""

    questions = OPEN_RELATIONS


@lru_cache(maxsize=4096)
def answerable(request: Request) -> tuple[OpenQuestion, ...]:
    """Questions that have the same answer in every scene that fulfils the request.

    Raises ValueError if no scene does: more things than places, or two things in one place.
    """
    scenes = all_scenes(request)
    if not scenes:
        raise ValueError(f"no picture of the digits world can show {sentence(request)!r}")
    first, *others = (open_questions(scene) for scene in scenes)
    return tuple(
        question
        for text, question in first.items()
        if all(text in other and other[text].answer == question.answer for other in others)
    )


def _counts_nothing(question: OpenQuestion) -> bool:
    """Whether the answer is zero: the paper asks only about elements that the prompt names."""
    return question.kind == "count" and question.answer == NUMBERS[0]


def scene_of(record: Record) -> Scene:
    """The scene that a record carries. Raises ValueError if it has none."""
    things = (record.model_extra or {}).get("scene")
    if not isinstance(things, list):
        raise ValueError("the record has no scene: the scene annotator reads only data of the digits world")
    try:
        return Scene.from_json(things)
    except (KeyError, TypeError):
        raise ValueError(f"the record's scene is not of the digits world: {things!r:.80}") from None


def _rng(*words: str) -> np.random.Generator:
    digest = hashlib.blake2b("\0".join(words).encode(), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))

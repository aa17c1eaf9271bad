"""A custom annotator behind the dialogue that all annotators share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pairuni.chat.replies import Unusable
from pairuni.chat.request import Answer
from pairuni.pairug.completion.annotator import Annotator
from pairuni.pairug.completion.answer_store import AnswerStore
from pairuni.pairug.completion.dialogue import Half, Sample, dialogue, origin_of, quadruple_of
from pairuni.pairug.completion.requests import key_of
from pairuni.pairug.completion.scheduling import Ended, Start, in_order
from pairuni.records import UnderstandingSample, Verdict


class CompletionError(RuntimeError):
    """A custom annotator raised; the message names the sample, and ``__cause__`` is its exception."""


def complete_with(
    annotator: Annotator, samples: Sequence[Sample], max_tries: int, store: AnswerStore, ended: Ended
) -> None:
    """Complete one sample after the other. Raises CompletionError when the annotator raises."""

    def start(sample: Sample) -> Start[_Call]:
        return lambda: dialogue(_CustomTask(sample, annotator), max_tries)

    in_order(map(start, samples), _answer, store, ended)


@dataclass(frozen=True)
class _Call:
    """One call of a method of the annotator; ``key`` identifies it in the answer store."""

    sample: Sample
    key: str
    make: Callable[[], Answer]


def _answer(call: _Call) -> Answer:
    try:
        return call.make()
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise CompletionError(
            f"the annotator failed on the {origin_of(call.sample)} sample {call.sample.id!r} ({what})"
        ) from error


class _CustomTask:
    """The task of one sample, as calls of the annotator's methods."""

    def __init__(self, sample: Sample, annotator: Annotator) -> None:
        self._sample = sample
        self._annotator = annotator

    def write(self, refusals: Sequence[str]) -> _Call:
        sample, feedback = self._sample, refusals[-1] if refusals else None

        def caption_or_question() -> Answer:
            if isinstance(sample, UnderstandingSample):
                return {"prompt": self._annotator.caption(sample, feedback)}
            question, answer = self._annotator.question(sample, feedback)
            return {"question": question, "answer": answer}

        method = "caption" if isinstance(sample, UnderstandingSample) else "question"
        return self._call(method, len(refusals), feedback, caption_or_question)

    def read_half(self, answer: Answer) -> Half:
        for name, text in answer.items():
            if not text:
                raise Unusable(f"the {name} is empty")
        return Half(**answer)

    def verify(self, half: Half, unread: Sequence[str]) -> _Call:
        quadruple = quadruple_of(self._sample, half)
        said = [half.prompt, half.question, half.answer]
        return self._call("verify", 0, said, lambda: self._annotator.verify(quadruple).model_dump())

    def read_verdict(self, half: Half, answer: Answer) -> Verdict:
        return Verdict.model_validate(answer)

    def _call(self, method: str, attempt: int, said: Any, make: Callable[[], Answer]) -> _Call:
        kind = type(self._annotator)
        key = key_of([kind.__module__, kind.__qualname__, method, self._sample.model_dump(), attempt, said])
        return _Call(self._sample, key, make)

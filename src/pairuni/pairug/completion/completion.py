"""Completion to quadruples (arXiv:2510.25682, section 2.1): generate, verify, generate again, drop."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pairuni.chat.endpoint import check_secrets
from pairuni.chat.replies import Unusable
from pairuni.chat.request import Answer
from pairuni.config import CompletionSettings
from pairuni.pairug.completion.answer_store import AnswerStore
from pairuni.pairug.completion.asking import in_order
from pairuni.pairug.completion.conversation import Half, Outcome, Sample, converse, origin_of, quadruple_of
from pairuni.pairug.completion.model_completion import MODEL_ANNOTATORS, ModelAnnotator
from pairuni.pairug.completion.options import LETTERS, balanced_letters, lettered
from pairuni.pairug.completion.requests import key_of
from pairuni.pairug.record_file import RecordFile
from pairuni.records import GenerationSample, Origin, Quadruple, UnderstandingSample, Verdict

ANNOTATORS = {"scene": "pairuni.digits.annotator:SceneAnnotator"}
"""Annotators by short name -> "module:Class", imported when asked for."""


@runtime_checkable
class Annotator(Protocol):
    """Writes the half that a sample lacks, and checks a quadruple against what the sample said.

    ``feedback`` is None at the first try, then the reason why the last try was refused. What a source added
    to a sample is on the quadruple too; ``image_path`` opens from the working directory.
    """

    def caption(self, sample: UnderstandingSample, feedback: str | None) -> str:
        """A caption C that holds every visual fact needed to answer the sample's question."""
        ...

    def question(self, sample: GenerationSample, feedback: str | None) -> tuple[str, str]:
        """(Q, A) about visual elements that the sample's prompt names."""
        ...

    def verify(self, quadruple: Quadruple) -> Verdict:
        """Whether the new half contradicts the original data."""
        ...


class CompletionError(RuntimeError):
    """An annotator raised; the sentence names the sample, ``__cause__`` is what it raised."""


@dataclass(frozen=True)
class Dropped:
    """A sample that went no further, and why.

    tries: 0 when it never reached the annotator. failed: no answer was to be had, so that the next build may
    complete it; otherwise it was refused, or its image is of no use.
    """

    id: str
    origin: Origin
    image_path: str
    reason: str
    tries: int = 0
    failed: bool = False


@dataclass
class CompletionReport:
    """quadruples + dropped add up to the samples; the dropped that failed are ``failed``.

    tries: answers of the writing half; checks: answers of the verifying half; retried: samples completed after
    a refusal.
    """

    quadruples: list[Quadruple] | RecordFile[Quadruple] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    tries: int = 0
    checks: int = 0
    retried: int = 0

    @property
    def failed(self) -> int:
        return sum(one.failed for one in self.dropped)


def complete(
    samples: Sequence[Sample],
    annotator: Annotator | ModelAnnotator,
    max_tries: int,
    *,
    seed: int = 0,
    advance: Callable[[], None] | None = None,
    store: AnswerStore,
    scratch: Path | None = None,
) -> CompletionReport:
    """Complete every sample; the report is in the samples' order. What ``store`` holds is not asked for again.

    A half that is empty counts as refused. Questions of a model get their letters here, balanced over the set
    by ``seed``. Raises CompletionError when an annotator raises; AskingStopped or CompletionPaused, with all
    answers kept, when a model's endpoint or budget allows no more or a batch is to be submitted.
    """
    outcomes = outcomes_of(samples, annotator, max_tries, advance=advance, store=store)
    return report_of(samples, outcomes, seed, scratch)


def outcomes_of(
    samples: Sequence[Sample],
    annotator: Annotator | ModelAnnotator,
    max_tries: int,
    *,
    advance: Callable[[], None] | None = None,
    store: AnswerStore,
) -> list[Outcome]:
    """How each sample's conversation ends, in their order; letters are not given yet. Raises as ``complete``."""
    outcomes: dict[int, Outcome] = {}

    def ended(number: int, outcome: Outcome) -> None:
        outcomes[number] = outcome
        if advance is not None:
            advance()

    if isinstance(annotator, ModelAnnotator):
        annotator.complete(samples, max_tries, store, ended)
    else:
        own = _Own(annotator, max_tries)
        in_order((own.begins(sample) for sample in samples), own.ask, store, ended)
    return [outcomes[number] for number in range(len(samples))]


def make_annotator(name: str, settings: CompletionSettings | None = None) -> Annotator | ModelAnnotator:
    """The annotator of this name: endpoint, batch or local by ``settings``, or "package.module:Class" of one's own.

    Raises ValueError, and ImportError when a package is missing.
    """
    settings = settings or CompletionSettings()
    if name in MODEL_ANNOTATORS:
        return ModelAnnotator.make(name, settings)
    check_secrets(settings, "completion")
    module, colon, attribute = ANNOTATORS.get(name, name).partition(":")
    if not colon:
        known = ", ".join([*ANNOTATORS, *MODEL_ANNOTATORS])
        raise ValueError(f"no annotator is called {name!r}; known: {known}, or package.module:Class")
    try:
        annotator = getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError, TypeError) as error:
        raise ValueError(f"the annotator {name!r} cannot be loaded: {error}") from None
    if not isinstance(annotator, Annotator):
        raise ValueError(f"the annotator {name!r} lacks one of the methods caption, question and verify")
    return annotator


@dataclass(frozen=True)
class _Call:
    """One call of an own annotator. The key tells apart what may be answered differently."""

    method: str
    sample: Sample
    key: str
    make: Callable[[], Answer]


class _OwnAuthor:
    """Puts a sample's tasks to an annotator of one's own, as calls."""

    def __init__(self, sample: Sample, annotator: Annotator) -> None:
        self.sample = sample
        self.annotator = annotator

    def write(self, refusals: Sequence[str]) -> _Call:
        sample, feedback = self.sample, refusals[-1] if refusals else None
        if isinstance(sample, UnderstandingSample):
            return self._call(
                "caption",
                len(refusals),
                feedback,
                lambda: {"prompt": self.annotator.caption(sample, feedback)},
            )
        return self._call("question", len(refusals), feedback, lambda: self._asked(sample, feedback))

    def written(self, answer: Answer) -> Half:
        for name, text in answer.items():
            if not text:
                raise Unusable(f"the {name} is empty")
        return Half(**answer)

    def check(self, half: Half, unread: Sequence[str]) -> _Call:
        return self._call(
            "verify",
            0,
            [half.prompt, half.question, half.answer],
            lambda: self.annotator.verify(quadruple_of(self.sample, half)).model_dump(),
        )

    def verdict(self, half: Half, answer: Answer) -> Verdict:
        return Verdict.model_validate(answer)

    def _asked(self, sample: GenerationSample, feedback: str | None) -> Answer:
        question, answer = self.annotator.question(sample, feedback)
        return {"question": question, "answer": answer}

    def _call(self, method: str, attempt: int, said: Any, make: Callable[[], Answer]) -> _Call:
        kind = type(self.annotator)
        key = key_of([kind.__module__, kind.__qualname__, method, self.sample.model_dump(), attempt, said])
        return _Call(method, self.sample, key, make)


class _Own:
    """An annotator of one's own behind the loop that all annotators share."""

    def __init__(self, annotator: Annotator, max_tries: int) -> None:
        self._annotator = annotator
        self._max_tries = max_tries

    def begins(self, sample: Sample) -> Callable[[], Any]:
        return lambda: converse(_OwnAuthor(sample, self._annotator), self._max_tries)

    def ask(self, call: _Call) -> Answer:
        try:
            return call.make()
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            raise CompletionError(
                f"the annotator failed on the {origin_of(call.sample)} sample {call.sample.id!r} ({what})"
            ) from error


def report_of(
    samples: Sequence[Sample], outcomes: Sequence[Outcome], seed: int, scratch: Path | None = None
) -> CompletionReport:
    """Samples with their outcomes as a report; options get their letters, balanced over the set by ``seed``.

    scratch: folder that keeps the quadruples while they are used; without it they stay in memory.
    """
    report = CompletionReport([] if scratch is None else RecordFile(scratch, Quadruple))
    placed = balanced_letters(
        {
            sample.id: outcome.half.options
            for sample, outcome in zip(samples, outcomes, strict=True)
            if outcome.half is not None and outcome.half.options
        },
        seed,
    )
    for sample, outcome in zip(samples, outcomes, strict=True):
        report.tries += outcome.tries
        report.checks += outcome.checks
        half = outcome.half
        if half is None:
            report.dropped.append(
                Dropped(
                    sample.id,
                    origin_of(sample),
                    sample.image_path,
                    outcome.reason,
                    outcome.tries,
                    outcome.failed,
                )
            )
            continue
        report.retried += outcome.tries > 1
        if half.options:
            options = placed[sample.id]
            letter = LETTERS[options.index(half.answer)]
            half = Half(question=lettered(half.question, options), answer=letter)
        report.quadruples.append(quadruple_of(sample, half))
    return report

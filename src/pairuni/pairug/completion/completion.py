"""Completion to quadruples (arXiv:2510.25682, section 2.1): generate, verify, generate again, drop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pairuni.pairug.completion.annotator import Annotator
from pairuni.pairug.completion.answer_store import AnswerStore
from pairuni.pairug.completion.custom_annotator import complete_with
from pairuni.pairug.completion.dialogue import Half, Outcome, Sample, origin_of, quadruple_of
from pairuni.pairug.completion.model_annotator import ModelAnnotator
from pairuni.pairug.completion.options import LETTERS, balanced_letters, lettered
from pairuni.pairug.record_file import RecordFile
from pairuni.records import Origin, Quadruple


@dataclass(frozen=True)
class Dropped:
    """A sample that is not in the data set, and why.

    tries: 0 when it never reached the annotator. failed: it got no answer, so that the next build may complete it;
    otherwise it was refused, or its image cannot be used.
    """

    id: str
    origin: Origin
    image_path: str
    reason: str
    tries: int = 0
    failed: bool = False


@dataclass
class CompletionReport:
    """quadruples + dropped add up to the samples; ``failed`` counts those of the dropped that got no answer.

    tries: answers with a new half; checks: answers with a verdict; retried: samples completed after a refusal.
    """

    quadruples: list[Quadruple] | RecordFile[Quadruple] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    tries: int = 0
    checks: int = 0
    retried: int = 0

    @property
    def failed(self) -> int:
        return sum(one.failed for one in self.dropped)


def outcomes_of(
    samples: Sequence[Sample],
    annotator: Annotator | ModelAnnotator,
    max_tries: int,
    *,
    advance: Callable[[], None] | None = None,
    store: AnswerStore,
) -> list[Outcome]:
    """The outcome of each sample, in order; options have no letters yet. A request with a stored answer is not sent.

    Raises CompletionError when a custom annotator raises; RequestsStopped or CompletionPaused, with all answers kept,
    when a model's endpoint or budget allows no more or a batch is to be submitted.
    """
    outcomes: dict[int, Outcome] = {}

    def ended(number: int, outcome: Outcome) -> None:
        outcomes[number] = outcome
        if advance is not None:
            advance()

    if isinstance(annotator, ModelAnnotator):
        annotator.complete(samples, max_tries, store, ended)
    else:
        complete_with(annotator, samples, max_tries, store, ended)
    return [outcomes[number] for number in range(len(samples))]


def report_of(
    samples: Sequence[Sample], outcomes: Sequence[Outcome], seed: int, scratch: Path | None = None
) -> CompletionReport:
    """Samples and their outcomes as a report; options get their letters, balanced over the data set by ``seed``.

    scratch: folder for the quadruples while they are used; without it they stay in memory.
    """
    report = CompletionReport([] if scratch is None else RecordFile(scratch, Quadruple))
    ends = list(zip(samples, outcomes, strict=True))
    placed = balanced_letters(
        {one.id: end.half.options for one, end in ends if end.half is not None and end.half.options}, seed
    )
    for sample, outcome in ends:
        report.tries += outcome.tries
        report.checks += outcome.checks
        half = outcome.half
        if half is None:
            place = sample.id, origin_of(sample), sample.image_path
            report.dropped.append(Dropped(*place, outcome.reason, outcome.tries, outcome.failed))
            continue
        report.retried += outcome.tries > 1
        if half.options:
            options = placed[sample.id]
            letter = LETTERS[options.index(half.answer)]
            half = Half(question=lettered(half.question, options), answer=letter)
        report.quadruples.append(quadruple_of(sample, half))
    return report

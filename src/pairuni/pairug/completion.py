"""Completion to quadruples (arXiv:2510.25682, section 2.1): generate, verify, generate again, drop."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from pairuni.pairug.journal import Journal, key_of
from pairuni.records import GenerationSample, Origin, Quadruple, UnderstandingSample, Verdict

COMPLETERS = {"scene": "pairuni.digits.completer:SceneCompleter"}
"""Completers by short name -> "module:Class", imported when asked for."""


@runtime_checkable
class Completer(Protocol):
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
    """A completer raised; the sentence names the sample, ``__cause__`` is what it raised."""


@dataclass(frozen=True)
class Dropped:
    """A sample that went no further, and why. tries: 0 when it never reached the completer."""

    id: str
    origin: Origin
    image_path: str
    reason: str
    tries: int = 0


@dataclass
class CompletionReport:
    """quadruples + dropped add up to the samples.

    tries: calls of the writing half; retried: samples completed after a refusal.
    """

    quadruples: list[Quadruple] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    tries: int = 0
    retried: int = 0


def complete(
    samples: Sequence[UnderstandingSample | GenerationSample],
    completer: Completer,
    max_tries: int,
    *,
    advance: Callable[[], None] | None = None,
    journal: Journal | None = None,
) -> CompletionReport:
    """Complete every sample, in order; what ``journal`` already holds is not asked for again.

    A half that is empty counts as refused. Raises CompletionError when the completer raises.
    """
    report = CompletionReport()
    for sample in samples:
        key = key_of(sample.model_dump())
        outcome = journal.get(key) if journal else None
        if outcome is None:
            outcome = _complete_one(sample, completer, max_tries)
            if journal:
                journal.put(key, outcome)
        _enter(report, sample, outcome)
        if advance is not None:
            advance()
    return report


def make_completer(name: str) -> Completer:
    """The completer of this name, or "package.module:Class" of one's own. Raises ValueError."""
    module, colon, attribute = COMPLETERS.get(name, name).partition(":")
    if not colon:
        raise ValueError(
            f"no completer is called {name!r}; known: {', '.join(COMPLETERS)}, or package.module:Class"
        )
    try:
        completer = getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError, TypeError) as error:
        raise ValueError(f"the completer {name!r} cannot be loaded: {error}") from None
    if not isinstance(completer, Completer):
        raise ValueError(f"the completer {name!r} lacks one of the methods caption, question and verify")
    return completer


def origin_of(sample: UnderstandingSample | GenerationSample) -> Origin:
    """The corpus that a sample belongs to."""
    return "understanding" if isinstance(sample, UnderstandingSample) else "generation"


def _complete_one(
    sample: UnderstandingSample | GenerationSample, completer: Completer, max_tries: int
) -> dict[str, Any]:
    feedback: str | None = None
    for tries in range(1, max_tries + 1):
        try:
            half = _written_half(sample, completer, feedback)
            if not all(half.values()):
                feedback = f"the {next(name for name, text in half.items() if not text)} is empty"
                continue
            quadruple = Quadruple(**{**sample.model_dump(), **half, "origin": origin_of(sample)})
            verdict = completer.verify(quadruple)
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            raise CompletionError(
                f"the completer failed on the {origin_of(sample)} sample {sample.id!r} ({what})"
            ) from error
        if verdict.ok:
            return {"quadruple": quadruple.model_dump(), "tries": tries}
        feedback = verdict.reason or "refused without a reason"
    return {"reason": feedback, "tries": max_tries}


def _written_half(
    sample: UnderstandingSample | GenerationSample, completer: Completer, feedback: str | None
) -> dict[str, str]:
    if isinstance(sample, UnderstandingSample):
        return {"prompt": completer.caption(sample, feedback)}
    question, answer = completer.question(sample, feedback)
    return {"question": question, "answer": answer}


def _enter(
    report: CompletionReport, sample: UnderstandingSample | GenerationSample, outcome: dict[str, Any]
) -> None:
    report.tries += outcome["tries"]
    if "quadruple" in outcome:
        report.quadruples.append(Quadruple.model_validate(outcome["quadruple"]))
        report.retried += outcome["tries"] > 1
    else:
        reason = f"refused {outcome['tries']} times, at last: {outcome['reason']}"
        report.dropped.append(
            Dropped(sample.id, origin_of(sample), sample.image_path, reason, outcome["tries"])
        )

"""Completion to quadruples (arXiv:2510.25682, section 2.1): generate, verify, generate again, drop."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

from pairuni.records import GenerationSample, Quadruple, UnderstandingSample, Verdict

COMPLETERS = {"scene": "pairuni.digits.completer:SceneCompleter"}
"""Completers by short name -> "module:Class", imported when asked for."""


class Completer(Protocol):
    """Writes the half that a sample lacks, and checks a quadruple against what the sample said.

    ``feedback`` is None at the first try, then the reason why the last try was refused.
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


@dataclass(frozen=True)
class Dropped:
    """A sample that no try completed, and why the last one was refused."""

    id: str
    origin: str
    reason: str
    tries: int


@dataclass
class CompletionReport:
    """quadruples + dropped add up to the samples; tries counts calls of the writing half."""

    quadruples: list[Quadruple] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    tries: int = 0


def complete(
    samples: Sequence[UnderstandingSample | GenerationSample],
    completer: Completer,
    max_tries: int,
    advance: Callable[[], None] | None = None,
) -> CompletionReport:
    """Complete every sample, in order. A completer that raises stops the run with the sample's id named."""
    report = CompletionReport()
    for sample in samples:
        _complete_one(sample, completer, max_tries, report)
        if advance is not None:
            advance()
    return report


def _complete_one(
    sample: UnderstandingSample | GenerationSample,
    completer: Completer,
    max_tries: int,
    report: CompletionReport,
) -> None:
    origin = "understanding" if isinstance(sample, UnderstandingSample) else "generation"
    feedback: str | None = None
    for _ in range(max_tries):
        report.tries += 1
        try:
            quadruple = _quadruple(sample, completer, feedback)
            verdict = completer.verify(quadruple)
        except Exception as error:
            error.add_note(f"while completing the {origin} sample {sample.id!r}")
            raise
        if verdict.ok:
            report.quadruples.append(quadruple)
            return
        feedback = verdict.reason
    report.dropped.append(Dropped(sample.id, origin, feedback or "refused without a reason", max_tries))


def _quadruple(
    sample: UnderstandingSample | GenerationSample, completer: Completer, feedback: str | None
) -> Quadruple:
    known = sample.model_dump()
    if isinstance(sample, UnderstandingSample):
        return Quadruple(**known, origin="understanding", prompt=completer.caption(sample, feedback))
    question, answer = completer.question(sample, feedback)
    return Quadruple(**known, origin="generation", question=question, answer=answer)


def make_completer(name: str) -> Completer:
    """The completer of this name, or "package.module:Class" of one's own. Raises ValueError."""
    module, colon, attribute = COMPLETERS.get(name, name).partition(":")
    if not colon:
        raise ValueError(
            f"no completer is called {name!r}; known: {', '.join(COMPLETERS)}, or package.module:Class"
        )
    try:
        return cast(Completer, getattr(importlib.import_module(module), attribute)())
    except (ModuleNotFoundError, AttributeError) as error:
        raise ValueError(f"the completer {name!r} cannot be loaded: {error}") from None

"""The consistency loop of one sample (arXiv:2510.25682, section 2.1): write, verify, write again, drop.

Nothing here talks to anybody. A conversation is a generator that yields requests and is sent answers, so that
the same loop runs against threads, files of a batch, a local model or a stored answer.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from pairuni.chat.replies import Unusable
from pairuni.chat.request import Answer, AskingFailed
from pairuni.records import GenerationSample, Origin, Quadruple, UnderstandingSample, Verdict

Sample = UnderstandingSample | GenerationSample

VERDICT_TRIES = 3
"""Times that a verdict is asked for before an unreadable one counts as a refusal."""


class Asked(Protocol):
    """Whatever can be asked: ``key`` names it for the store."""

    @property
    def key(self) -> str: ...


R = TypeVar("R", bound=Asked)
R_co = TypeVar("R_co", bound=Asked, covariant=True)


@dataclass(frozen=True)
class Half:
    """The new half of a quadruple. options: of a question that has no letters yet, the right one first."""

    prompt: str = ""
    question: str = ""
    answer: str = ""
    options: tuple[str, ...] = ()


class Author(Protocol[R_co]):
    """Puts one sample's tasks into requests and reads the answers."""

    def write(self, refusals: Sequence[str]) -> R_co:
        """The request for the half that the sample lacks; ``refusals`` are the reasons of earlier tries."""
        ...

    def written(self, answer: Answer) -> Half:
        """The half in an answer. Raises Unusable."""
        ...

    def check(self, half: Half, unread: Sequence[str]) -> R_co:
        """The request for a verdict; ``unread`` says why earlier verdicts could not be read."""
        ...

    def verdict(self, half: Half, answer: Answer) -> Verdict:
        """The verdict in an answer. Raises Unusable."""
        ...


@dataclass(frozen=True)
class Outcome:
    """How a sample ended: completed (``half``), dropped or failed (``reason``).

    tries: answers to write; checks: answers to verify.
    """

    half: Half | None
    reason: str = ""
    tries: int = 0
    checks: int = 0
    failed: bool = False


Conversation = Generator[R, Answer, Outcome]


def converse(author: Author[R], max_tries: int) -> Conversation[R]:
    """Completed as soon as a verdict is good; dropped with the last reason after ``max_tries``."""
    refusals: list[str] = []
    tries = checks = 0
    try:
        while tries < max_tries:
            answer = yield author.write(refusals)
            tries += 1
            try:
                half = author.written(answer)
            except Unusable as error:
                refusals.append(str(error))
                continue
            unread: list[str] = []
            verdict = None
            while verdict is None and len(unread) < VERDICT_TRIES:
                answer = yield author.check(half, unread)
                checks += 1
                try:
                    verdict = author.verdict(half, answer)
                except Unusable as error:
                    unread.append(str(error))
            if verdict is None:
                verdict = Verdict(ok=False, reason=f"there was no verdict that can be read: {unread[-1]}")
            if verdict.ok:
                return Outcome(half, tries=tries, checks=checks)
            refusals.append(verdict.reason or "refused without a reason")
    except AskingFailed as error:
        return Outcome(None, str(error), tries=tries, checks=checks, failed=True)
    return Outcome(None, f"refused {tries} times, at last: {refusals[-1]}", tries=tries, checks=checks)


def origin_of(sample: Sample) -> Origin:
    """The corpus that a sample belongs to."""
    return "understanding" if isinstance(sample, UnderstandingSample) else "generation"


def quadruple_of(sample: Sample, half: Half) -> Quadruple:
    """The sample with its new half; keys that a source added travel along."""
    new = {name: text for name, text in vars(half).items() if name != "options" and text}
    return Quadruple(**{**sample.model_dump(), **new, "origin": origin_of(sample)})

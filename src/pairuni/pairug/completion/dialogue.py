"""The consistency loop of one sample (arXiv:2510.25682, section 2.1): write, verify, write again, drop.

A dialogue is a generator that yields requests and receives answers. It does no I/O, so the same loop runs against
an endpoint, batch files, a local model or stored answers.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from pairuni.chat.replies import Unusable
from pairuni.chat.request import Answer, RequestFailed
from pairuni.records import GenerationSample, Origin, Quadruple, UnderstandingSample, Verdict

Sample = UnderstandingSample | GenerationSample

VERDICT_TRIES = 3
"""Requests for a verdict before unreadable ones count as a refusal."""


class Keyed(Protocol):
    """A request of any kind; ``key`` identifies it in the answer store."""

    @property
    def key(self) -> str: ...


R = TypeVar("R", bound=Keyed)
R_co = TypeVar("R_co", bound=Keyed, covariant=True)


@dataclass(frozen=True)
class Half:
    """The new half of a quadruple. options: of a question without letters yet, the right one first."""

    prompt: str = ""
    question: str = ""
    answer: str = ""
    options: tuple[str, ...] = ()


class Task(Protocol[R_co]):
    """The requests that complete one sample, and what their answers mean."""

    def write(self, refusals: Sequence[str]) -> R_co:
        """The request for the missing half; ``refusals`` are the reasons of earlier tries."""
        ...

    def read_half(self, answer: Answer) -> Half:
        """The half in an answer. Raises Unusable."""
        ...

    def verify(self, half: Half, unread: Sequence[str]) -> R_co:
        """The request for a verdict; ``unread`` says why earlier verdicts could not be read."""
        ...

    def read_verdict(self, half: Half, answer: Answer) -> Verdict:
        """The verdict in an answer. Raises Unusable."""
        ...


@dataclass(frozen=True)
class Outcome:
    """How a sample ended: completed (``half``), dropped or failed (``reason``).

    tries: answers with a new half; checks: answers with a verdict.
    """

    half: Half | None
    reason: str = ""
    tries: int = 0
    checks: int = 0
    failed: bool = False


Dialogue = Generator[R, Answer, Outcome]


def dialogue(task: Task[R], max_tries: int) -> Dialogue[R]:
    """The loop of one sample: the first good verdict completes it; after ``max_tries`` it is dropped."""
    refusals: list[str] = []
    tries = checks = 0
    try:
        while tries < max_tries:
            answer = yield task.write(refusals)
            tries += 1
            try:
                half = task.read_half(answer)
            except Unusable as error:
                refusals.append(str(error))
                continue
            unread: list[str] = []
            verdict = None
            while verdict is None and len(unread) < VERDICT_TRIES:
                answer = yield task.verify(half, unread)
                checks += 1
                try:
                    verdict = task.read_verdict(half, answer)
                except Unusable as error:
                    unread.append(str(error))
            if verdict is None:
                # part of the next prompt, and so of stored keys
                verdict = Verdict(ok=False, reason=f"there was no verdict that can be read: {unread[-1]}")
            if verdict.ok:
                return Outcome(half, tries=tries, checks=checks)
            refusals.append(verdict.reason or "refused without a reason")
    except RequestFailed as error:
        return Outcome(None, str(error), tries=tries, checks=checks, failed=True)
    return Outcome(None, f"refused {tries} times, at last: {refusals[-1]}", tries=tries, checks=checks)


def origin_of(sample: Sample) -> Origin:
    """The corpus of a sample."""
    return "understanding" if isinstance(sample, UnderstandingSample) else "generation"


def quadruple_of(sample: Sample, half: Half) -> Quadruple:
    """The sample with its new half; extra keys of the sample are kept."""
    new = {name: text for name, text in vars(half).items() if name != "options" and text}
    return Quadruple(**{**sample.model_dump(), **new, "origin": origin_of(sample)})

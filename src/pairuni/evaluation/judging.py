"""A judge behind an OpenAI-compatible endpoint: one image per request; every reply is stored on arrival."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar

from pairuni.chat.image import sendable
from pairuni.chat.request import Answer, PlainRequest, RequestFailed, RequestsStopped, Stopping
from pairuni.chat.responses import why_no_answer
from pairuni.config import EndpointSettings
from pairuni.console.progress import Progress
from pairuni.evaluation.journal import Journal
from pairuni.io.images import ImageError
from pairuni.io.threads import thread_map

M = TypeVar("M")

Asks = Callable[[PlainRequest, Stopping], Answer]
"""A function that sends a request, such as an ``Endpoint``."""

TRIES = 3
"""Requests to a judge until its reply can be parsed, as in WISE's own scripts."""

MOST_FAULTS = 20
"""Failed images after which judging stops, because the cause is then unlikely to be the images."""


@dataclass(frozen=True)
class Case:
    """One image to judge, and its prompt."""

    name: str
    system: str
    text: str
    image: Path

    def encoded(self) -> tuple[str, bytes]:
        """(MIME type, bytes) to send: the file if every reader decodes it to the same image, else a PNG of its RGB.

        Raises ImageError naming the file.
        """
        return sendable(self.image)

    @cached_property
    def digest(self) -> str:
        """Digest of texts and image."""
        content = json.dumps([self.system, self.text]).encode()
        return hashlib.sha256(content + self.image.read_bytes()).hexdigest()[:32]


@dataclass(frozen=True)
class Judged(Generic[M]):
    """A reply of the judge and its meaning. left_out: request parameters that its server refused."""

    reply: str
    marks: M
    left_out: tuple[str, ...] = ()


def judge_all(
    cases: Mapping[str, Case],
    settings: EndpointSettings,
    endpoint: Asks,
    read: Callable[[str], M | None],
    store: Path,
) -> dict[str, Judged[M]]:
    """The judge's replies for all cases. read: the marks in a reply, or None.

    Every reply goes into ``store`` before it is read, under a digest of model, texts, image and number of the try:
    stored replies are not requested again. A reply that cannot be parsed is requested again, ``TRIES`` times in all
    per run; invalid replies, such as empty ones, are not stored. Raises RuntimeError, when all others are judged,
    naming how many have no marks and the first of them, and at once when there are too many or the endpoint answers
    nobody.
    """
    stopping = Stopping()
    faults: dict[str, str] = {}
    counting = threading.Lock()

    def fault(case: Case, reason: str) -> None:
        faults[case.name] = reason
        if len(faults) == MOST_FAULTS:
            raise RequestsStopped(f"{MOST_FAULTS} images got no marks, the last {case.name}: {reason}")

    def judged(case: Case) -> Judged[M] | None:
        request = PlainRequest(
            model=settings.model,
            system=case.system,
            content=(case.text, case),
            max_tokens=settings.max_tokens,
            temperature=settings.temperature,
        )
        asked = json.dumps([settings.model, settings.max_tokens, settings.temperature])
        base = f"{hashlib.sha256(asked.encode()).hexdigest()[:16]}-{case.digest}"
        number = tries = 0
        reply = ""
        while True:
            key = f"{base}-{number}"
            if key not in replies:
                if tries == TRIES:
                    fault(case, f"no marks in {TRIES} replies, the last: {reply[:200]!r}")
                    return None
                tries += 1
                try:
                    answer = endpoint(request, stopping)
                except (RequestFailed, ImageError) as error:
                    fault(case, str(error))
                    return None
                replies.add({key: {"case": case.name, **answer}})
            reply = str(replies[key]["text"])
            marks = None if why_no_answer(replies[key]) else read(reply)
            if marks is not None:
                with counting:
                    progress.advance()
                return Judged(reply, marks, tuple(replies[key].get("unset") or ()))
            number += 1

    with Journal(store) as replies, Progress("judge", total=len(cases), unit="images") as progress:
        try:
            found = thread_map(judged, list(cases.values()), settings.concurrency, stopping)
        except KeyboardInterrupt:
            stopping.set()
            raise
        except RequestsStopped as error:
            raise RuntimeError(f"the judge {settings.model}: {error}") from None
    if faults:
        name, reason = next(iter(faults.items()))
        raise RuntimeError(
            f"{len(faults):,} of {len(cases):,} images have no marks by {settings.model}, the first {name}: "
            f"{reason}; finished judgements are kept, and the same command requests these again"
        )
    return {key: one for key, one in zip(cases, found, strict=True) if one is not None}

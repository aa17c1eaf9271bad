"""A judge behind an OpenAI-compatible endpoint: one case per request; every reply is stored on arrival."""

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
class ImageFile:
    """An image file to send."""

    path: Path

    def encoded(self) -> tuple[str, bytes]:
        """(MIME type, bytes) to send: the file if every reader decodes it to the same image, else a PNG of its RGB.

        Raises ImageError naming the file.
        """
        return sendable(self.path)


@dataclass(frozen=True)
class Case:
    """One case to judge: its prompt, and its images, which follow the text."""

    name: str
    system: str
    text: str
    images: tuple[Path, ...]

    @cached_property
    def digest(self) -> str:
        """Digest of texts and images."""
        digest = hashlib.sha256(json.dumps([self.system, self.text]).encode())
        for image in self.images:
            digest.update(image.read_bytes())
        return digest.hexdigest()[:32]


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
    per run; invalid replies, such as empty ones, are not stored. Raises RuntimeError when all other cases are judged,
    with the number of images without marks and the first of them; and at once if there are too many of them or the
    endpoint answers no request.
    """
    stopping = Stopping()
    with Journal(store) as replies, Progress("judge", total=len(cases), unit="images") as progress:
        judge = _Judge(settings, endpoint, read, replies, progress, stopping)
        try:
            found = thread_map(judge, list(cases.values()), settings.concurrency, stopping)
        except KeyboardInterrupt:
            stopping.set()
            raise
        except RequestsStopped as error:
            raise RuntimeError(f"the judge {settings.model}: {error}") from None
    if judge.faults:
        name, reason = next(iter(judge.faults.items()))
        raise RuntimeError(
            f"{len(judge.faults):,} of {len(cases):,} images have no marks by {settings.model}, the first {name}: "
            f"{reason}; finished judgements are kept, and the same command requests these again"
        )
    return {key: one for key, one in zip(cases, found, strict=True) if one is not None}


class _Judge(Generic[M]):
    """Judges one case per call, in several threads; ``faults`` has the reason of each case without marks."""

    def __init__(
        self,
        settings: EndpointSettings,
        endpoint: Asks,
        read: Callable[[str], M | None],
        replies: Journal,
        progress: Progress,
        stopping: Stopping,
    ) -> None:
        self._settings, self._endpoint, self._read = settings, endpoint, read
        self._replies, self._progress, self._stopping = replies, progress, stopping
        self._counting = threading.Lock()
        asked = json.dumps([settings.model, settings.max_tokens, settings.temperature])
        self._asked = hashlib.sha256(asked.encode()).hexdigest()[:16]
        self.faults: dict[str, str] = {}

    def __call__(self, case: Case) -> Judged[M] | None:
        """The first reply with marks, stored or new; None after a fault."""
        number = tries = 0
        reply = ""
        while True:
            key = f"{self._asked}-{case.digest}-{number}"
            if key not in self._replies:
                if tries == TRIES:
                    self._fault(case, f"no marks in {TRIES} replies, the last: {reply[:200]!r}")
                    return None
                tries += 1
                try:
                    answer = self._endpoint(self._request(case), self._stopping)
                except (RequestFailed, ImageError) as error:
                    self._fault(case, str(error))
                    return None
                self._replies.add({key: {"case": case.name, **answer}})
            stored = self._replies[key]
            reply = str(stored["text"])
            marks = None if why_no_answer(stored) else self._read(reply)
            if marks is not None:
                with self._counting:
                    self._progress.advance()
                return Judged(reply, marks, tuple(stored.get("unset") or ()))
            number += 1

    def _request(self, case: Case) -> PlainRequest:
        return PlainRequest(
            model=self._settings.model,
            system=case.system,
            content=(case.text, *map(ImageFile, case.images)),
            max_tokens=self._settings.max_tokens,
            temperature=self._settings.temperature,
        )

    def _fault(self, case: Case, reason: str) -> None:
        self.faults[case.name] = reason
        if len(self.faults) == MOST_FAULTS:
            raise RequestsStopped(f"{MOST_FAULTS} images got no marks, the last {case.name}: {reason}")

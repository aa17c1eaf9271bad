"""The queue of a reward server: requests are scored one after the other; a repeated request is scored once."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
from dataclasses import dataclass
from queue import Queue
from typing import Any

from pairuni.records import Annotation
from pairuni.rewards.checked import RewardError
from pairuni.rewards.reward import Reward
from pairuni.rewards.service.wire import Sample, unpack
from pairuni.rewards.weighted import scores_by_term, total_scores

logger = logging.getLogger("pairuni")

MAX_UNDELIVERED = 64
"""Replies kept for clients that stopped waiting, until they send the request again."""

Reply = tuple[int, dict[str, Any]]
"""HTTP status and JSON object."""


@dataclass
class _Job:
    """One request. body: released when a thread takes it."""

    body: bytes | bytearray
    size: int
    reply: asyncio.Future[Reply]

    def take(self) -> bytes | bytearray:
        body, self.body = self.body, b""
        return body


class Scorer:
    """Scores requests with one reward. All public methods run in the thread of the event loop.

    One thread decodes the images of the next request while another scores; only one scores, because models are not
    thread-safe. At most three requests have their images in memory.
    """

    def __init__(self, reward: Reward, limit: float | None) -> None:
        """limit: seconds that the reward may take for a request, or None."""
        self._reward = reward
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._jobs: dict[bytes, _Job] = {}
        self._received: Queue[_Job | None] = Queue()
        self._unpacked: Queue[tuple[_Job, list[Annotation], list[Sample]] | None] = Queue(maxsize=1)
        for work in (self._unpack_all, self._score_all):
            threading.Thread(target=work, name="reward server", daemon=True).start()

    @property
    def waiting(self) -> int:
        """Requests without a reply."""
        return sum(not job.reply.done() for job in self._jobs.values())

    @property
    def size(self) -> int:
        """Bytes of the requests without a reply."""
        return sum(job.size for job in self._jobs.values() if not job.reply.done())

    def submit(self, body: bytearray) -> tuple[bytes, asyncio.Future[Reply]]:
        """The request's key and reply, shared by all that send this body until it is ``delivered``."""
        key = hashlib.sha256(body).digest()
        if key not in self._jobs:
            job = self._jobs[key] = _Job(body, len(body), self._loop.create_future())
            self._received.put(job)
        reply = self._jobs[key].reply
        undelivered = [old for old, job in self._jobs.items() if job.reply.done()]
        for old in undelivered[:-MAX_UNDELIVERED]:
            del self._jobs[old]
        return key, reply

    def delivered(self, key: bytes, reply: asyncio.Future[Reply]) -> None:
        """A client received the reply: from now on, the same request is a new one."""
        if key in self._jobs and self._jobs[key].reply is reply:
            del self._jobs[key]

    def close(self) -> None:
        """End both threads."""
        self._received.put(None)

    def _unpack_all(self) -> None:
        while (job := self._received.get()) is not None:
            try:
                self._unpacked.put((job, *unpack(job.take())))
            except ValueError as error:
                self._reply(job, (400, {"error": str(error)}))
            except MemoryError:
                self._reply(job, (413, {"error": "the server has not enough memory for the request"}))
            except Exception:  # an unexpected error must not end the thread that all requests need
                logger.exception("a request could not be read")
                self._reply(job, (500, {"error": "the server could not read the request"}))
        self._unpacked.put(None)

    def _score_all(self) -> None:
        while (unpacked := self._unpacked.get()) is not None:
            job, records, samples = unpacked
            del unpacked
            self._reply(job, self._scored(records, samples))
            del records, samples

    def _scored(self, records: list[Annotation], samples: list[Sample]) -> Reply:
        try:
            by_term = scores_by_term(self._reward, records, samples, timeout=self._limit)
            return 200, {"scores": total_scores(self._reward, by_term)}
        except RewardError as error:
            logger.warning("%s", error)
            return 422, {"error": str(error)}
        except Exception as error:  # as above
            logger.exception("a request could not be scored")
            return 500, {"error": f"the server failed: {type(error).__name__}"}

    def _reply(self, job: _Job, reply: Reply) -> None:
        try:
            self._loop.call_soon_threadsafe(self._settle, job, reply)
        except RuntimeError:  # the loop has closed, and nobody waits for the reply
            logger.debug("a reply was ready after the server had stopped")

    def _settle(self, job: _Job, reply: Reply) -> None:
        if reply[0] != 200:  # a failed request is scored again when it is sent again
            self._jobs = {key: other for key, other in self._jobs.items() if other is not job}
        job.reply.set_result(reply)

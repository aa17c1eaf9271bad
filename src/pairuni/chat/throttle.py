"""How many requests are in flight at an endpoint that limits its rate."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pairuni.chat.request import RequestsStopped, Stopping

_LOOK = 0.2


class Throttle:
    """Lets as many requests through as the endpoint bears.

    A refusal holds all of them back for as long as the endpoint asks and halves how many may fly at once; as many
    answers as may fly allow one more. Safe between threads.
    """

    def __init__(self) -> None:
        self._free = threading.Condition()
        self._not_before = 0.0
        self._flying = 0
        self._most = float("inf")
        self._since_change = 0
        self.answers = 0
        """How many answers came, of all requests."""
        self.refusals = 0
        """How often the endpoint refused; requests that were on their way together are one refusal."""

    @property
    def most(self) -> int:
        """How many requests may fly at once, after a refusal."""
        return int(self._most) if self._most < float("inf") else 0

    @contextmanager
    def flight(self, stopping: Stopping) -> Iterator[None]:
        """Wait for one's turn, and take it for the time of one request. Raises RequestsStopped on ``stopping``."""
        with self._free:
            while (rest := self._not_before - time.monotonic()) > 0 or self._flying >= self._most:
                # nobody tells a condition that a run stops, so it looks for itself
                self._free.wait(min(rest, _LOOK) if rest > 0 else _LOOK)
                if stopping.is_set():
                    raise RequestsStopped("stopped")
            self._flying += 1
        try:
            yield
        finally:
            with self._free:
                self._flying -= 1
                self._free.notify()

    def answered(self) -> None:
        """A request was answered."""
        with self._free:
            self.answers += 1
            self._since_change += 1
            if self._since_change >= self._most:
                self._most, self._since_change = self._most + 1, 0
                self._free.notify()

    def refused(self, wait: float) -> None:
        """The endpoint refused a request for its rate: nobody asks for ``wait`` seconds."""
        with self._free:
            now = time.monotonic()
            if now >= self._not_before:  # those that were on their way together are one refusal
                self._most, self._since_change = max(1, self._flying // 2), 0
                self.refusals += 1
            self._not_before = max(self._not_before, now + wait * random.uniform(1.0, 1.1))

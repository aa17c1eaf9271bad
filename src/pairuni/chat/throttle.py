"""Limits the requests in flight at an endpoint that limits its rate."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pairuni.chat.request import RequestsStopped, Stopping

_POLL = 0.2


class Throttle:
    """Adapts the number of requests in flight to the endpoint's rate limit. Safe between threads.

    A refusal pauses all requests for as long as the endpoint demands and halves how many may be in flight. After as
    many answers as the limit allows, the limit grows by one.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._not_before = 0.0
        self._in_flight = 0
        self._most = float("inf")
        self._since_change = 0
        self.answers = 0
        """Answers to all requests so far."""
        self.refusals = 0
        """Refusals so far; those of requests in flight together count once."""

    @property
    def most(self) -> int:
        """The limit of requests in flight after a refusal; 0 before any."""
        return int(self._most) if self._most < float("inf") else 0

    @contextmanager
    def flight(self, stopping: Stopping) -> Iterator[None]:
        """Wait until one more request may be in flight, for the duration of it. Raises RequestsStopped."""
        with self._changed:
            while (rest := self._not_before - time.monotonic()) > 0 or self._in_flight >= self._most:
                # stopping does not notify the condition, so it is polled
                self._changed.wait(min(rest, _POLL) if rest > 0 else _POLL)
                if stopping.is_set():
                    raise RequestsStopped("stopped")
            self._in_flight += 1
        try:
            yield
        finally:
            with self._changed:
                self._in_flight -= 1
                self._changed.notify()

    def answered(self) -> None:
        """A request was answered."""
        with self._changed:
            self.answers += 1
            self._since_change += 1
            if self._since_change >= self._most:
                self._most, self._since_change = self._most + 1, 0
                self._changed.notify()

    def refused(self, wait: float) -> None:
        """The endpoint refused a request because of its rate: send none for ``wait`` seconds."""
        with self._changed:
            now = time.monotonic()
            if now >= self._not_before:  # refusals of requests in flight together count once
                self._most, self._since_change = max(1, self._in_flight // 2), 0
                self.refusals += 1
            self._not_before = max(self._not_before, now + wait * random.uniform(1.0, 1.1))

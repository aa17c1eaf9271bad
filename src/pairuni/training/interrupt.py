"""Ctrl-C, SIGTERM and SIGHUP as a request to stop at the next safe place."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

logger = logging.getLogger("pairuni")

GRACE = 20.0
"""Seconds between SIGTERM or SIGHUP and KeyboardInterrupt; schedulers kill about 30 seconds after SIGTERM."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequest:
    """While entered, the first SIGINT, SIGTERM or SIGHUP sets ``requested``; a second raises KeyboardInterrupt.

    SIGTERM and SIGHUP are sent once, by machines: after ``grace`` seconds KeyboardInterrupt is raised, even out of a
    blocking read. launched: so is SIGINT, by a launcher such as torchrun, which passes Ctrl-C on. SIGHUP stays
    ignored if it was, as under nohup. Outside the main thread, which alone receives signals, nothing is ever
    requested.
    """

    def __init__(self, grace: float = GRACE, *, launched: bool = False) -> None:
        self.requested = False
        self._launched = launched
        self._grace = grace
        self._timer: threading.Timer | None = None
        self._held = self._pending = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                    continue
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def hold(self) -> None:
        """Delay KeyboardInterrupt until ``release``, for short work that must not be interrupted."""
        self._held = True

    def release(self) -> None:
        """Raise the KeyboardInterrupt that was delayed, if any."""
        self._held = False
        if self._pending:
            self._pending = False
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            if not self._held:
                raise KeyboardInterrupt
            self._pending = True
            return
        self.requested = True
        if number == signal.SIGINT and not self._launched:
            logger.warning("stopping after this step; press Ctrl-C again to stop at once")
            return
        logger.warning(
            "%s: stopping after this step, or after the last one if this takes more than %g seconds",
            *(signal.Signals(number).name, self._grace),
        )
        main = threading.main_thread().ident
        assert main is not None
        # to the main thread: a signal that another thread receives does not end a blocking read
        self._timer = threading.Timer(self._grace, signal.pthread_kill, (main, number))
        self._timer.daemon = True
        self._timer.start()

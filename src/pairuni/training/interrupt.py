"""Ctrl-C, SIGTERM and SIGHUP as a request to stop at the next safe place."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

logger = logging.getLogger("pairuni")

GRACE = 20.0
"""Seconds between SIGTERM or SIGHUP and KeyboardInterrupt: schedulers kill some 30 seconds after SIGTERM."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequest:
    """While entered, the first SIGINT, SIGTERM or SIGHUP sets ``requested``; a second raises KeyboardInterrupt.

    SIGTERM and SIGHUP come from machines that send no second one: after ``grace`` seconds KeyboardInterrupt is
    raised, out of a blocking read too. SIGHUP is ignored where it was ignored before, as under nohup. Python delivers
    signals to the main thread alone: elsewhere this never fires.
    """

    def __init__(self, grace: float = GRACE) -> None:
        self.requested = False
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
        """From here to ``release`` is a short piece of work that must not be cut: KeyboardInterrupt waits."""
        self._held = True

    def release(self) -> None:
        """Raises the KeyboardInterrupt that waited."""
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
        if number == signal.SIGINT:
            logger.warning("stopping after this step; once more stops at once")
            return
        logger.warning(
            "%s: stopping after this step, or after the last one if this takes more than %g seconds",
            *(signal.Signals(number).name, self._grace),
        )
        main = threading.main_thread().ident
        assert main is not None
        # to the main thread itself: a signal that another thread receives does not end a blocking read
        self._timer = threading.Timer(self._grace, signal.pthread_kill, (main, number))
        self._timer.daemon = True
        self._timer.start()

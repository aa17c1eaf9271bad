"""A reward behind HTTP, for the reward ``remote``: its socket, and how it stops."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Self

from pairuni.rewards.reward import Reward
from pairuni.rewards.service.limits import MOST_HEADER_BYTES, Limits

try:
    import uvicorn

    from pairuni.rewards.service.application import RewardService
    from pairuni.rewards.service.connection import connection_class
except ImportError as error:
    raise ImportError(f"serving a reward needs {error.name}: pip install 'pairuni[serve]'") from None

logger = logging.getLogger("pairuni")

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class RewardServer:
    """Serves one reward to any number of clients; requests are read at once and scored one after the other.

    address: host and port, 0 for a free one. token: without it as bearer token, nothing but /health is answered.
    limit: seconds that the reward may take for a request; None waits forever. The same request sent again is scored
    once: it joins the one under way.
    """

    def __init__(
        self,
        reward: Reward,
        address: tuple[str, int],
        token: str = "",
        *,
        limit: float | None = None,
        limits: Limits | None = None,
    ) -> None:
        """Takes the address. Raises OSError when that is not possible."""
        limits = limits or Limits()
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._socket = socket.create_server(address, family=family, backlog=128)
        self._service = RewardService(reward, token, limit, limits)
        self._uvicorn = _Uvicorn(
            uvicorn.Config(
                self._service,
                http=connection_class(limits),
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                log_level="critical",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=int(limits.head_seconds) + 1,
                timeout_graceful_shutdown=limits.stop_seconds,  # type: ignore[arg-type]
                h11_max_incomplete_event_size=MOST_HEADER_BYTES,
            )
        )
        self._host, self.server_port = self._socket.getsockname()[:2]
        self._ended = threading.Event()
        self._ended.set()

    @property
    def url(self) -> str:
        """Where it is found from this machine."""
        return f"http://{f'[{self._host}]' if ':' in self._host else self._host}:{self.server_port}"

    def serve_forever(self) -> None:
        """Serve until ``shutdown`` or, in the main thread, SIGINT, SIGTERM or SIGHUP.

        Requests in flight are then finished as far as ``Limits.stop_seconds`` allows.
        """
        self._ended.clear()
        try:
            asyncio.run(self._uvicorn.serve(sockets=[self._socket]))
        finally:
            self._service.close()
            self._ended.set()

    def shutdown(self) -> None:
        """Stop serving from another thread, and wait until that is done."""
        self._uvicorn.should_exit = True
        self._ended.wait()

    def server_close(self) -> None:
        """Free the address."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.server_close()


class _Uvicorn(uvicorn.Server):
    """uvicorn's server, which ends well after a signal instead of dying by it."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in STOPPING}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            self.force_exit = True
            return
        self.should_exit = True
        seconds = self.config.timeout_graceful_shutdown
        logger.warning("stopping: requests in flight have %g seconds; once more stops at once", seconds)

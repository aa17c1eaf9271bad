"""The reward server: its socket, its uvicorn server and its shutdown."""

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
from pairuni.rewards.service.limits import MAX_HEADER_BYTES, Limits

try:
    import uvicorn

    from pairuni.rewards.service.application import RewardService
    from pairuni.rewards.service.connection import connection_class
except ImportError as error:
    raise ImportError(f"serving a reward needs {error.name}: pip install 'pairuni[serve]'") from None

logger = logging.getLogger("pairuni")

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class RewardServer:
    """Serves one reward to any number of clients. Requests are received concurrently and scored one after the other.

    address: host and port, 0 for a free port. token: the bearer token that /score requires, empty for none. limit:
    seconds that the reward may take for a request, or None. A repeated request joins the one in progress.
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
        """Binds the address. Raises OSError if that is not possible."""
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
                h11_max_incomplete_event_size=MAX_HEADER_BYTES,
            )
        )
        self._host, self.server_port = self._socket.getsockname()[:2]
        self._ended = threading.Event()
        self._ended.set()

    @property
    def url(self) -> str:
        """Its URL on this machine."""
        return f"http://{f'[{self._host}]' if ':' in self._host else self._host}:{self.server_port}"

    def serve_forever(self) -> None:
        """Serve until ``shutdown`` or, in the main thread, SIGINT, SIGTERM or SIGHUP.

        Requests in flight then have ``Limits.stop_seconds`` to finish.
        """
        self._ended.clear()
        try:
            asyncio.run(self._uvicorn.serve(sockets=[self._socket]))
        finally:
            self._service.close()
            self._ended.set()

    def shutdown(self) -> None:
        """Stop serving, called from another thread, and wait for the end."""
        self._uvicorn.should_exit = True
        self._ended.wait()

    def server_close(self) -> None:
        """Release the address."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.server_close()


class _Uvicorn(uvicorn.Server):
    """uvicorn's server, which exits normally after a signal instead of raising it again."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in STOP_SIGNALS}
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
        logger.warning(
            "stopping: requests in flight have %g seconds; a second signal stops immediately", seconds
        )

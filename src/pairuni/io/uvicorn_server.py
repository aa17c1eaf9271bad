"""uvicorn's server with the signals of this project's servers."""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn

logger = logging.getLogger("pairuni")

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Server(uvicorn.Server):
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


def quiet_server(app: Any, *, stop_seconds: float, **options: Any) -> Server:
    """A server of an ASGI application without logs, web sockets and trust in proxies; options: of ``uvicorn.Config``.

    stop_seconds: time for requests in flight after a signal.
    """
    return Server(
        uvicorn.Config(
            app,
            ws="none",
            loop="asyncio",
            log_config=None,
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=stop_seconds,  # type: ignore[arg-type]
            **options,
        )
    )


def bound_socket(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 picks a free one. Raises OSError if the address is not available."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=128)


def url_of(listening: socket.socket) -> str:
    """The URL of a listening socket on this machine."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"

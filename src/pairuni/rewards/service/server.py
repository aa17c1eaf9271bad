"""The reward server: its socket, its uvicorn server and its shutdown."""

from __future__ import annotations

import asyncio
import threading
from typing import Self

from pairuni.rewards.reward import Reward
from pairuni.rewards.service.limits import MAX_HEADER_BYTES, Limits

try:
    from pairuni.io.uvicorn_server import bound_socket, quiet_server, url_of
    from pairuni.rewards.service.application import RewardService
    from pairuni.rewards.service.connection import connection_class
except ImportError as error:
    raise ImportError(f"serving a reward needs {error.name}: pip install 'pairuni[serve]'") from None


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
        self._socket = bound_socket(*address)
        self._service = RewardService(reward, token, limit, limits)
        self._uvicorn = quiet_server(
            self._service,
            stop_seconds=limits.stop_seconds,
            http=connection_class(limits),
            lifespan="off",
            timeout_keep_alive=int(limits.head_seconds) + 1,
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        )
        self.server_port = self._socket.getsockname()[1]
        self._url = url_of(self._socket)
        self._ended = threading.Event()
        self._ended.set()

    @property
    def url(self) -> str:
        """Its URL on this machine."""
        return self._url

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

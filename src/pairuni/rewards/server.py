"""A reward behind HTTP, for the reward ``remote``: POST /score (``pairuni.rewards.wire``), GET /health."""

from __future__ import annotations

import hmac
import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pairuni import __version__
from pairuni.rewards.checked import RewardError, checked_scores
from pairuni.rewards.reward import Reward, needs_of, range_of
from pairuni.rewards.wire import bounds_to_json, unpack

logger = logging.getLogger("pairuni")

MOST_BYTES = 1 << 30
"""Longest body of a request."""
IDLE_SECONDS = 60.0
"""A connection on which nothing moves for so long is closed."""


class RewardServer(ThreadingHTTPServer):
    """Serves one reward to any number of clients; requests are read at once and scored one after the other.

    address: host and port, 0 for a free one. token: without it as bearer token, nothing but /health is answered.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, reward: Reward, address: tuple[str, int], token: str = "") -> None:
        """Raises OSError when the address cannot be taken."""
        super().__init__(address, _Handler)
        self.reward = reward
        self.token = token
        # a reward may hold a model, and models are not made for several threads
        self.scoring = threading.Lock()

    @property
    def url(self) -> str:
        """Where it is found from this machine."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no matter of ours."""
        logger.debug("a connection from %s broke", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: RewardServer
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS

    def do_GET(self) -> None:
        if self.path != "/health":
            return self._send(404, {"error": f"{self.path}: there are /health and /score"})
        reward = self.server.reward
        return self._send(
            200,
            {
                "name": reward.name,
                "range": bounds_to_json(range_of(reward)),
                "needs": needs_of(reward),
                "version": __version__,
            },
        )

    def do_POST(self) -> None:
        said = self.headers.get("Content-Length", "")
        length = int(said) if said.isdecimal() else MOST_BYTES + 1
        if length > MOST_BYTES:
            self.close_connection = True  # the body is not read
            return self._send(413, {"error": f"a request must say its length, at most {MOST_BYTES:,} bytes"})
        if not self._is_allowed():
            self._pass_over(length)
            return self._send(401, {"error": "the bearer token is missing or wrong"})
        if self.path != "/score":
            self._pass_over(length)
            return self._send(404, {"error": f"{self.path}: there are /health and /score"})
        try:
            records, samples = unpack(self.rfile.read(length))
        except ValueError as error:
            return self._send(400, {"error": str(error)})
        try:
            with self.server.scoring:
                scores = checked_scores(self.server.reward, records, samples)
        except RewardError as error:
            logger.warning("%s", error)
            return self._send(422, {"error": str(error)})
        return self._send(200, {"scores": scores})

    def _is_allowed(self) -> bool:
        wanted = f"Bearer {self.server.token}".encode()
        given = self.headers.get("Authorization", "").encode()
        return not self.server.token or hmac.compare_digest(wanted, given)

    def _pass_over(self, length: int) -> None:
        """Read a body and keep nothing: a client that is still sending would not hear the reply."""
        while length and (piece := self.rfile.read(min(length, 1 << 16))):
            length -= len(piece)

    def _send(self, status: int, said: dict[str, Any]) -> None:
        data = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        """A line a request would drown what matters."""

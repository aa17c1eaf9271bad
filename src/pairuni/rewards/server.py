"""A reward behind HTTP, for the reward ``remote``: POST /score (``pairuni.rewards.wire``), GET /health."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import select
import socket
import threading
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pairuni import __version__
from pairuni.rewards.checked import RewardError
from pairuni.rewards.reward import Reward, needs_of, range_of
from pairuni.rewards.weighted import scores_by_term, total_scores
from pairuni.rewards.wire import bounds_to_json, unpack

logger = logging.getLogger("pairuni")

MOST_BYTES = 1 << 29
"""Longest body of a request."""
IDLE_SECONDS = 60.0
"""A connection on which nothing moves for so long is closed."""
KEPT = 64
"""Replies that nobody heard which are kept, so that a client that lost patience finds them when it asks again."""

Reply = tuple[int, dict[str, Any]]
"""HTTP status and JSON object."""


class RewardServer(ThreadingHTTPServer):
    """Serves one reward to any number of clients; requests are read at once and scored one after the other.

    address: host and port, 0 for a free one. token: without it as bearer token, nothing but /health is answered.
    limit: seconds that the reward may take for a request; None waits for ever. The same request sent again is scored
    once: it joins the one under way.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self, reward: Reward, address: tuple[str, int], token: str = "", *, limit: float | None = None
    ) -> None:
        """Raises OSError when the address cannot be taken."""
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)
        self.reward = reward
        self.token = token
        self._limit = limit
        # a reward may hold a model, and models are not made for several threads
        self._scoring = threading.Lock()
        self._replies: dict[bytes, Future[Reply]] = {}
        self._joining = threading.Lock()

    @property
    def url(self) -> str:
        """Where it is found from this machine."""
        host, port = self.server_address[:2]
        return f"http://[{host!s}]:{port}" if ":" in str(host) else f"http://{host!s}:{port}"

    def reply_to(self, body: bytes) -> Reply:
        """The reply to a request to score, made once for all that send it until it is ``heard``."""
        key = hashlib.sha256(body).digest()
        with self._joining:
            mine = key not in self._replies
            reply = self._replies.setdefault(key, Future())
            unheard = [old for old, made in self._replies.items() if made.done()]
            for old in unheard[:-KEPT]:
                del self._replies[old]
        if mine:
            try:
                made = self._scored(body)
            except BaseException as error:  # for those that wait too
                self.heard(body)
                reply.set_exception(error)
            else:
                if made[0] != 200:  # what failed is tried anew
                    self.heard(body)
                reply.set_result(made)
        return reply.result()

    def heard(self, body: bytes) -> None:
        """Somebody waits for the reply: the same request is a new one from now on."""
        with self._joining:
            self._replies.pop(hashlib.sha256(body).digest(), None)

    def _scored(self, body: bytes) -> Reply:
        try:
            records, samples = unpack(body)
        except ValueError as error:
            return 400, {"error": str(error)}
        try:
            with self._scoring:
                by_term = scores_by_term(self.reward, records, samples, timeout=self._limit)
        except RewardError as error:
            logger.warning("%s", error)
            return 422, {"error": str(error)}
        return 200, {"scores": total_scores(self.reward, by_term)}

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
        body = self.rfile.read(length)
        reply = self.server.reply_to(body)
        if not self._has_hung_up():
            self.server.heard(body)
        return self._send(*reply)

    def _has_hung_up(self) -> bool:
        """Whether the client waits no longer; while it waits, it sends nothing."""
        ready, _, _ = select.select([self.connection], [], [], 0)
        try:
            return bool(ready) and not self.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

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

"""A connection to the reward server, with what uvicorn leaves to a proxy: deadlines, a limit, errors as JSON."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from pairuni.rewards.service.limits import RETRY_SECONDS, Limits


def connection_class(limits: Limits) -> type[H11Protocol]:
    """The class of a server's connections under these limits."""

    class Connection(H11Protocol):
        """Closes when a request takes too long to arrive, whatever the client sends meanwhile."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._owed_since = self.loop.time()
            self._watch = self.loop.call_later(limits.head_seconds, self._check)
            if len(self.connections) > limits.connections:
                self._refuse(503, "the server has as many connections as it takes: try again in a moment")

        def connection_lost(self, exc: Exception | None) -> None:
            self._watch.cancel()
            super().connection_lost(exc)

        def on_response_complete(self) -> None:
            self._owed_since = self.loop.time()
            super().on_response_complete()

        def send_400_response(self, msg: str) -> None:
            self._refuse(400, "this is no HTTP request, or its header is too long")

        def _check(self) -> None:
            """Close the connection when its client owes us a request, or a part of one, for too long."""
            now = self.loop.time()
            if self.conn.their_state is h11.IDLE:
                allowed = limits.head_seconds
            else:
                allowed = limits.body_seconds + 1.0  # the handler, which can say why, goes first
            arrived = self.conn.their_state not in (h11.IDLE, h11.SEND_BODY)
            if not arrived and now - self._owed_since >= allowed:
                self.transport.abort()
                return
            left = allowed if arrived else self._owed_since + allowed - now
            self._watch = self.loop.call_later(min(max(left, 0.05), limits.head_seconds), self._check)

        def _refuse(self, status: int, sentence: str) -> None:
            """Reply without a request that could be read, and close."""
            said = json.dumps({"error": sentence}).encode()
            headers: list[tuple[bytes, bytes]] = [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(said)).encode()),
                (b"connection", b"close"),
            ]
            if status == 503:
                headers.append((b"retry-after", str(RETRY_SECONDS).encode()))
            events: list[Any] = [
                h11.Response(status_code=status, headers=headers),
                h11.Data(data=said),
                h11.EndOfMessage(),
            ]
            if self.cycle is not None:  # its handler has nobody to reply to
                self.cycle.disconnected = True
                self.cycle.message_event.set()
            try:
                for event in events:
                    self.transport.write(self.conn.send(event) or b"")
            except h11.LocalProtocolError:  # a reply has been sent already
                pass
            self.transport.close()

    return Connection

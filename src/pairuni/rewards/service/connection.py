"""Connections of the reward server, with deadlines, a limit and JSON errors, which uvicorn leaves to a proxy."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from pairuni.rewards.service.limits import RETRY_SECONDS, Limits


def connection_class(limits: Limits) -> type[H11Protocol]:
    """The connections of a server with these limits, as a class for uvicorn."""
    return type("LimitedConnection", (Connection,), {"limits": limits})


class Connection(H11Protocol):
    """A connection that is closed when a request takes too long to arrive, even if bytes keep coming."""

    limits: Limits

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._waiting_since = self.loop.time()
        self._watch = self.loop.call_later(self.limits.head_seconds, self._check)
        if len(self.connections) > self.limits.connections:
            self._refuse(503, "the server has reached its limit of connections: try again in a moment")

    def connection_lost(self, exc: Exception | None) -> None:
        self._watch.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        self._waiting_since = self.loop.time()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "this is not an HTTP request, or its header is too long")

    def _check(self) -> None:
        """Close the connection if a request, or the rest of one, has not arrived in time."""
        now = self.loop.time()
        if self.conn.their_state is h11.IDLE:
            allowed = self.limits.head_seconds
        else:
            # the handler, which can send a reason, times out first
            allowed = self.limits.body_seconds + 1.0
        arrived = self.conn.their_state not in (h11.IDLE, h11.SEND_BODY)
        if not arrived and now - self._waiting_since >= allowed:
            self.transport.abort()
            return
        left = allowed if arrived else self._waiting_since + allowed - now
        self._watch = self.loop.call_later(min(max(left, 0.05), self.limits.head_seconds), self._check)

    def _refuse(self, status: int, message: str) -> None:
        """Reply without a valid request, and close."""
        content = json.dumps({"error": message}).encode()
        headers: list[tuple[bytes, bytes]] = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(content)).encode()),
            (b"connection", b"close"),
        ]
        if status == 503:
            headers.append((b"retry-after", str(RETRY_SECONDS).encode()))
        events: list[Any] = [
            h11.Response(status_code=status, headers=headers),
            h11.Data(data=content),
            h11.EndOfMessage(),
        ]
        if self.cycle is not None:  # end its handler, which can no longer reply
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        try:
            for event in events:
                self.transport.write(self.conn.send(event) or b"")
        except h11.LocalProtocolError:  # a reply has already been sent
            pass
        self.transport.close()

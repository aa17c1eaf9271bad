"""Limits that keep one client of a reward server from blocking the others."""

from __future__ import annotations

from dataclasses import dataclass

RETRY_SECONDS = 1
"""Retry-After of a busy server."""

MAX_HEADER_BYTES = 1 << 14
"""Size of a request's header."""


@dataclass(frozen=True)
class Limits:
    """Limits of a reward server; docs/rewards.md lists the defaults."""

    body_bytes: int = 1 << 29
    """Size of a request's body, and of all requests that wait for their scores."""
    connections: int = 512
    """Open connections; further ones get a 503."""
    requests: int = 256
    """Requests that are received or scored at the same time; further ones get a 503."""
    head_seconds: float = 20.0
    """From the start of a connection, or the previous reply on it, to the end of a request's header."""
    body_seconds: float = 120.0
    """From the end of a request's header to the end of its body."""
    reply_seconds: float = 300.0
    """For waiting and scoring; the client then gets a 503, and its next attempt joins the request in progress."""
    stop_seconds: float = 30.0
    """For finishing the requests in flight when the server stops."""

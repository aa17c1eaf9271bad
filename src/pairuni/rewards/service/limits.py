"""What one client of a reward server may take from the others."""

from __future__ import annotations

from dataclasses import dataclass

RETRY_SECONDS = 1
"""Retry-After of a server that is busy."""

MOST_HEADER_BYTES = 1 << 14
"""Longest header of a request."""


@dataclass(frozen=True)
class Limits:
    """Limits of a reward server; ``docs/rewards.md`` states the defaults."""

    body_bytes: int = 1 << 29
    """Longest body of a request, and of all requests that wait for their scores."""
    connections: int = 512
    """Open connections; a further one is told to try again."""
    requests: int = 256
    """Requests received or scored at once; a further one is told to try again."""
    head_seconds: float = 20.0
    """From a connection, or from the previous reply on it, to the end of a request's header."""
    body_seconds: float = 120.0
    """From a request's header to the end of its body."""
    reply_seconds: float = 300.0
    """For the wait and the scoring; then the client is told to ask again, and joins the request under way."""
    stop_seconds: float = 30.0
    """For requests in flight when the server is told to stop."""

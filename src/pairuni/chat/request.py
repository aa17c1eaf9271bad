"""Requests to a model, its answers, and the exceptions of a request without an answer."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Format = Literal["schema", "object", "text"]
"""How JSON is requested: by a schema, as any object, or by the prompt alone."""

Answer = dict[str, Any]
"""An answer as JSON. A model's has text, finish, refusal, id, prompt_tokens and completion_tokens.

Optional keys: "unset" lists parameters that were left out because the server refused them, "over_limit" is true when
the server used more tokens than allowed.
"""


class EncodableImage(Protocol):
    """An image that can be encoded and sent."""

    def encoded(self) -> tuple[str, bytes]:
        """(MIME type, the file's bytes)."""
        ...


class ChatRequest(Protocol):
    """One request: the messages, and the JSON expected in reply."""

    @property
    def model(self) -> str: ...

    @property
    def system(self) -> str: ...

    @property
    def content(self) -> Sequence[str | EncodableImage]:
        """Texts and images of the user's message, in order."""
        ...

    @property
    def name(self) -> str:
        """Name of the reply in its schema."""
        ...

    @property
    def schema(self) -> dict[str, Any] | None:
        """The reply's JSON schema; None for a reply in plain text."""
        ...

    @property
    def max_tokens(self) -> int: ...

    @property
    def temperature(self) -> float | None: ...


@dataclass(frozen=True, kw_only=True)
class PlainRequest:
    """A request from its parts."""

    model: str
    content: Sequence[str | EncodableImage]
    system: str = ""
    name: str = "reply"
    schema: dict[str, Any] | None = None
    max_tokens: int
    temperature: float | None = None


class RequestFailed(RuntimeError):
    """One request got no answer in any attempt. spent: tokens charged for it, sent and received."""

    def __init__(self, reason: str, spent: tuple[int, int] = (0, 0)) -> None:
        super().__init__(reason)
        self.spent = spent


class RequestsStopped(RuntimeError):
    """No request can be answered any more, or the run is stopping."""


class Stopping(threading.Event):
    """Set when the run is to stop; wakes up all that wait."""


class FailureStreak:
    """Counts consecutive requests without an answer, over all threads."""

    most = 10
    """Failures in a row after which the run stops: the cause is then not in the requests."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    def answered(self) -> None:
        """A request was answered."""
        with self._lock:
            self._count = 0

    def failed(self, reason: str) -> None:
        """A request got no answer. Raises RequestsStopped at ``most`` in a row."""
        with self._lock:
            self._count += 1
            if self._count >= self.most:
                raise RequestsStopped(
                    f"{self._count} requests in a row got no answer, the last because {reason}; none is stored, "
                    "and the same command sends them again"
                )

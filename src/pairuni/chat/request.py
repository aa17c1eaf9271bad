"""What is asked of a model, what comes back, and how asking ends without an answer."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Format = Literal["schema", "object", "text"]
"""How a server is told to reply in JSON: by a schema, as any object, by the prompt alone."""

Answer = dict[str, Any]
"""What came back, as JSON. A model's has text, finish, refusal, id, prompt_tokens and completion_tokens.

Where it could not be asked as it should: "unset" lists the parameters that its server refused and that were left out,
"over_limit" is true when the server spent more tokens than allowed.
"""


class EncodableImage(Protocol):
    """An image that can be sent."""

    def encoded(self) -> tuple[str, bytes]:
        """(MIME type, the file's bytes)."""
        ...


class ChatRequest(Protocol):
    """One request: what the model is told, and the JSON that it shall reply with."""

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
        """What the reply is called in the schema."""
        ...

    @property
    def schema(self) -> dict[str, Any] | None:
        """The reply's JSON schema; None when the reply is no JSON."""
        ...

    @property
    def max_tokens(self) -> int: ...

    @property
    def temperature(self) -> float | None: ...


@dataclass(frozen=True, kw_only=True)
class PlainRequest:
    """A request by its parts."""

    model: str
    content: Sequence[str | EncodableImage]
    system: str = ""
    name: str = "reply"
    schema: dict[str, Any] | None = None
    max_tokens: int
    temperature: float | None = None


class RequestFailed(RuntimeError):
    """One request got no answer after all that was tried. spent: tokens that were charged for it, sent and received."""

    def __init__(self, reason: str, spent: tuple[int, int] = (0, 0)) -> None:
        super().__init__(reason)
        self.spent = spent


class RequestsStopped(RuntimeError):
    """No request can be answered any more."""


class Stopping(threading.Event):
    """Set when the run is to stop: whoever waits wakes up."""


class FailureStreak:
    """Counts requests without an answer, one after the other, whoever asks. Safe between threads."""

    most = 10
    """Requests after which it is not the requests' fault."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    def answered(self) -> None:
        """A request has its answer."""
        with self._lock:
            self._count = 0

    def failed(self, reason: str) -> None:
        """A request has none. Raises RequestsStopped when it was one too many."""
        with self._lock:
            self._count += 1
            if self._count >= self.most:
                raise RequestsStopped(
                    f"{self._count} requests in a row got no answer, the last because {reason}; none of them is "
                    "stored, and the same command asks again"
                )

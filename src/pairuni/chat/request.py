"""What is asked of a model, what comes back, and how asking ends without an answer."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Format = Literal["schema", "object", "text"]
"""How a server is told to reply in JSON: by a schema, as any object, by the prompt alone."""

Answer = dict[str, Any]
"""What came back, as JSON. A model's has text, finish, refusal, id, prompt_tokens and completion_tokens."""


class Sendable(Protocol):
    """A picture that can be sent."""

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
    def content(self) -> Sequence[str | Sendable]:
        """Texts and pictures of the user's message, in order."""
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
    content: Sequence[str | Sendable]
    system: str = ""
    name: str = "reply"
    schema: dict[str, Any] | None = None
    max_tokens: int
    temperature: float | None = None


class AskingFailed(RuntimeError):
    """One request got no answer after all that was tried."""


class AskingStopped(RuntimeError):
    """No request can be answered any more."""


class Stopping(threading.Event):
    """Set when the run is to stop: whoever waits wakes up."""

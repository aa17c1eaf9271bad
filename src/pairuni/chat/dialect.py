"""Dialects of the chat API: which parameters a server accepts, learned from its refusals."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, replace
from typing import Any, Literal

from pairuni.chat.request import ChatRequest, EncodableImage, Format

_ROOM = re.compile(r"context (?:length|window|size)|too (?:large|long|many)|exceed", re.I)
"""A refusal of the request's length; it names limits, and no other dialect helps."""
_FORMAT = re.compile(
    r"\b(?:response_format|json_schema|guided_json|json_object)\b|structured outputs?|json mode", re.I
)
_SYSTEM = re.compile(r"system.{0,40}(?:role|message|prompt|instruction)|role.{0,20}system", re.I | re.S)


@dataclass(frozen=True)
class Refusal:
    """A server's refusal of a request: the message, and the parameter if it names one."""

    said: str
    parameter: str = ""


@dataclass(frozen=True)
class Dialect:
    """How JSON is requested, the name of the token limit, and the parameters that are left out."""

    format: Format = "schema"
    limit: Literal["max_completion_tokens", "max_tokens"] = "max_completion_tokens"
    without: frozenset[str] = frozenset()
    """Parameters that are left out; "system" moves the system message into the user's."""

    def body(self, request: ChatRequest) -> dict[str, Any]:
        """The body of a chat completion, images as data URLs. Raises what encoding an image raises."""
        messages: list[dict[str, Any]] = []
        content = [_part(one) for one in request.content]
        if request.system and "system" in self.without:
            content = [_part(request.system), *content]
        elif request.system:
            messages.append({"role": "system", "content": request.system})
        messages.append({"role": "user", "content": content})
        return {"model": request.model, "messages": messages, **self._parameters(request)}

    def left_out(self, request: ChatRequest) -> list[str]:
        """The request's parameters that this dialect leaves out."""
        present = {"temperature": request.temperature is not None}
        return sorted(name for name in self.without if present.get(name))

    def after(
        self, refusal: Refusal, request: ChatRequest, *, fixed: bool, named_only: bool = False
    ) -> Dialect | None:
        """The dialect to try after this one was refused, or None.

        fixed: keep the format. named_only: change only what the refusal names.
        """
        named = self.named_in(refusal, request)
        if named == self.limit:
            other: Literal["max_completion_tokens", "max_tokens"]
            other = "max_tokens" if self.limit == "max_completion_tokens" else "max_completion_tokens"
            return replace(self, limit=other)
        if named not in (None, "response_format"):
            return replace(self, without=self.without | {str(named)})
        if fixed or self.format == "text" or request.schema is None or _ROOM.search(refusal.said):
            return None
        if named_only and named is None:
            return None
        return replace(self, format="object" if self.format == "schema" else "text")

    def named_in(self, refusal: Refusal, request: ChatRequest) -> str | None:
        """The subject of a refusal: a parameter that was sent, or "system"; None if unknown."""
        sent = self._parameters(request)
        for part in re.split(r"[.\[\]/ ]+", refusal.parameter):
            if part in sent:
                return part
        if _ROOM.search(refusal.said):
            return None
        places = {name: found.start() for name in sent if (found := re.search(rf"\b{name}\b", refusal.said))}
        if "response_format" in sent and (about := _FORMAT.search(refusal.said)):
            places["response_format"] = about.start()
        if request.system and "system" not in self.without and (about := _SYSTEM.search(refusal.said)):
            places["system"] = about.start()
        return min(places, key=lambda name: places[name]) if places else None

    def _parameters(self, request: ChatRequest) -> dict[str, Any]:
        parameters: dict[str, Any] = {self.limit: request.max_tokens}
        if request.temperature is not None:
            parameters["temperature"] = request.temperature
        if request.schema is not None and self.format == "schema":
            schema = {"name": request.name, "strict": True, "schema": request.schema}
            parameters["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif request.schema is not None and self.format == "object":
            parameters["response_format"] = {"type": "json_object"}
        return {name: value for name, value in parameters.items() if name not in self.without}

    def __str__(self) -> str:
        without = f", without {', '.join(sorted(self.without))}" if self.without else ""
        return f"JSON by {self.format}, {self.limit}{without}"


def _part(one: str | EncodableImage) -> dict[str, Any]:
    if isinstance(one, str):
        return {"type": "text", "text": one}
    mime, data = one.encoded()
    url = f"data:{mime};base64,{base64.b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}

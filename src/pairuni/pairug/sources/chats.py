"""Chats in the formats of data sets: roles, texts, and images inside messages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pairuni.io.text import parse_json
from pairuni.placeholders import without_placeholders

QUESTION_ROLES = ("human", "user")
REPLY_ROLES = ("gpt", "assistant", "model", "bot")
_TAGGED = re.compile(r"<img>\s*([^<>]+?)\s*</img>")
"""A path inside the text, as in Qwen-VL."""
_LONGEST = 1 << 20
"""Characters of a chat that is stored as JSON in a text column."""


@dataclass(frozen=True)
class Turn:
    """who: the role in lower case. text: without image placeholders at its ends."""

    who: str
    text: str
    images: tuple[Any, ...] = ()


def turns_of(value: Any) -> list[Turn] | None:
    """The turns of a list of messages, or of its JSON; None for anything else.

    A message is {"role", "content"} or {"from", "value"}. Its content is text or parts in OpenAI's format: texts, and
    images as ``image_url`` or ``image``.
    """
    value = _list(value)
    return None if value is None else [_turn(message) for message in value]


def is_chat(value: Any) -> bool:
    """Whether a value is a list of messages rather than of texts."""
    messages = _list(value)
    return bool(messages) and all(
        isinstance(message, dict) and ("role" in message or "from" in message) for message in messages or []
    )


def words_of(value: Any, roles: Sequence[str]) -> Any:
    """The text of ``roles`` in a chat, or of the parts of a message, joined by newlines; other values unchanged."""
    if is_chat(value):
        return "\n".join(turn.text for turn in turns_of(value) or [] if turn.who in roles)
    if isinstance(value, dict) and ("role" in value or "from" in value):
        return _turn(value).text
    if isinstance(value, list) and value and all(isinstance(part, dict) and "type" in part for part in value):
        return _turn({"content": value}).text
    return value


def _list(value: Any) -> list[Any] | None:
    if isinstance(value, str) and value.lstrip()[:1] == "[" and len(value) <= _LONGEST:
        try:
            value = parse_json(value)
        except ValueError:
            return None
        return value if isinstance(value, list) and value and isinstance(value[0], dict) else None
    return value if isinstance(value, list) else None


def _turn(message: Any) -> Turn:
    if not isinstance(message, dict):
        return Turn("", "")
    content = message.get("value", message.get("content"))
    parts = content if isinstance(content, list) else [content]
    texts = [text for part in parts if (text := _text(part))]
    images = [image for part in parts if (image := _image(part)) is not None]
    images += [path for part in parts if isinstance(part, str) for path in _TAGGED.findall(part)]
    who = message.get("from", message.get("role"))
    return Turn(str(who).casefold(), without_placeholders("\n".join(texts)).strip(), tuple(images))


def _text(part: Any) -> str:
    text = part.get("text") if isinstance(part, dict) else part
    return without_placeholders(text).strip() if isinstance(text, str) else ""


def _image(part: Any) -> Any:
    """The image of a part; None for parts that are only a placeholder, {"type": "image"}."""
    if not isinstance(part, dict) or part.get("type") not in ("image", "image_url", "input_image"):
        return None
    names = ("image_url", "image", "url", "path", "bytes")
    found = next((part[name] for name in names if part.get(name) is not None), None)
    source = part.get("source")
    if found is None and isinstance(source, dict) and isinstance(source.get("data"), str):
        return f"data:{source.get('media_type', 'image/png')};base64,{source['data']}"
    return found

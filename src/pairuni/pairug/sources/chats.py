"""Chats as data sets write them: who says what, and which images stand among the words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pairuni.io.text import parse_json
from pairuni.placeholders import without_placeholders

QUESTIONS = ("human", "user")
REPLIES = ("gpt", "assistant", "model", "bot")
_TAGGED = re.compile(r"<img>\s*([^<>]+?)\s*</img>")
"""A path among the words, as Qwen-VL has it."""
_LONGEST = 1 << 20
"""Characters of a chat that is written as JSON in a text column."""


@dataclass(frozen=True)
class Turn:
    """who: the role in small letters; text: without image marks at its ends."""

    who: str
    text: str
    pictures: tuple[Any, ...] = ()


def turns_of(value: Any) -> list[Turn] | None:
    """The turns of a list of messages, or of the JSON of one; None for anything else.

    A message is {"role", "content"} or {"from", "value"}; its content is text, or parts of OpenAI's form: texts,
    and images as ``image_url`` or ``image``.
    """
    value = _list(value)
    return None if value is None else [_turn(message) for message in value]


def is_chat(value: Any) -> bool:
    """Whether a value is a list of messages, and no list of texts."""
    messages = _list(value)
    return bool(messages) and all(
        isinstance(message, dict) and ("role" in message or "from" in message) for message in messages or []
    )


def words_of(value: Any, roles: Sequence[str]) -> Any:
    """The words of ``roles`` in a chat or of a message's parts, joined by lines; any other value as it is."""
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
    pictures = [picture for part in parts if (picture := _image(part)) is not None]
    pictures += [path for part in parts if isinstance(part, str) for path in _TAGGED.findall(part)]
    who = message.get("from", message.get("role"))
    return Turn(str(who).casefold(), without_placeholders("\n".join(texts)).strip(), tuple(pictures))


def _text(part: Any) -> str:
    text = part.get("text") if isinstance(part, dict) else part
    return without_placeholders(text).strip() if isinstance(text, str) else ""


def _image(part: Any) -> Any:
    """What a part holds for its image; None for parts that only mark a place, {"type": "image"}."""
    if not isinstance(part, dict) or part.get("type") not in ("image", "image_url", "input_image"):
        return None
    names = ("image_url", "image", "url", "path", "bytes")
    found = next((part[name] for name in names if part.get(name) is not None), None)
    source = part.get("source")
    if found is None and isinstance(source, dict) and isinstance(source.get("data"), str):
        return f"data:{source.get('media_type', 'image/png')};base64,{source['data']}"
    return found

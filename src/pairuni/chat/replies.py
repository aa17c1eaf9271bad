"""Values out of what a model said: strict JSON, JSON inside prose or fences, or lines of "name: value"."""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from pairuni.chat.reasoning import without_reasoning
from pairuni.chat.request import Answer


class Reply(BaseModel):
    """Base of all replies, flat: keys that were not asked for are passed over, "yes" is true."""

    model_config = ConfigDict(extra="ignore")


class Unusable(Exception):
    """A reply that cannot be taken as it is; the message is the reason, told at the next try."""


T = TypeVar("T", bound=Reply)

_LONGEST_QUOTE = 200
_JSON_TYPES: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    float: {"type": "number"},
    list[str]: {"type": "array", "items": {"type": "string"}},
}


def schema_of(reply: type[Reply]) -> dict[str, Any]:
    """The JSON schema of a reply as strict structured outputs want it: flat, all keys required, no others."""
    properties = {name: _JSON_TYPES[field.annotation] for name, field in reply.model_fields.items()}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def read_reply(answer: Answer, kind: type[T]) -> T:
    """The reply in an answer. Raises Unusable: the model refused, was cut off, or did not keep to the fields."""
    text = str(answer.get("text") or "")
    refusal = answer.get("refusal")
    if refusal or answer.get("finish") == "content_filter":
        raise Unusable(f"the model refused: {_quote(str(refusal or text or 'content filter'))}")
    text = without_reasoning(text).strip()
    cut = answer.get("finish") == "length"
    if not text:
        raise Unusable("the reply was cut off before it began" if cut else "the reply was empty")
    values = _json_object(text) if "{" in text else _labelled_lines(text, kind)
    if values is None:
        raise Unusable(f"the reply {'was cut off' if cut else 'is not whole JSON'}: {_quote(text)}")
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"]))
        said = "is missing" if first["type"] == "missing" else f"is wrong ({first['msg'].lower()})"
        raise Unusable(f"the reply's {name} {said}") from None


def one_line(text: str) -> str:
    """The text with every run of white space as one space."""
    return " ".join(text.split())


def _json_object(text: str) -> dict[str, Any] | None:
    """The first whole JSON object of a text."""
    decoder = json.JSONDecoder()
    for found in re.finditer(r"\{", text):
        try:
            values, _ = decoder.raw_decode(text, found.start())
        except (ValueError, RecursionError):
            continue
        return values if isinstance(values, dict) else None
    return None


def _labelled_lines(text: str, kind: type[Reply]) -> dict[str, Any] | None:
    """Lines that begin with a field's name; the lines that follow belong to it. None when there are none."""
    names = "|".join(kind.model_fields)
    label = re.compile(rf"^[\W_]*({names.replace('_', '[_ ]')})[\W_]*?[:=][*_\s]*(.*)$", re.I)
    values: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        if match := label.match(line):
            current = values.setdefault(match[1].lower().replace(" ", "_"), [])
            line = match[2]
        if line.strip():
            current.append(line.strip().strip('",'))
    if not values:
        return None
    read: dict[str, Any] = {}
    for name, lines in values.items():
        if kind.model_fields[name].annotation == list[str]:
            parts = [part for line in lines for part in re.split(r";|^[-*•]\s*|^\d+[.)]\s*", line)]
            read[name] = [part.strip() for part in parts if part.strip()]
        else:
            read[name] = (
                " ".join(lines).rstrip(".") if kind.model_fields[name].annotation is bool else " ".join(lines)
            )
    return read


def _quote(text: str) -> str:
    text = one_line(text)
    return repr(text if len(text) <= _LONGEST_QUOTE else text[: _LONGEST_QUOTE - 3] + "...")

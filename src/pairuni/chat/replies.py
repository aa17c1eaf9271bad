"""Structured values from a reply: JSON in any form and context, or lines of "name: value".

Reasons of ``Unusable`` are quoted in later prompts, so their wording is part of the keys of stored answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, model_validator

from pairuni.chat.quoting import quoted
from pairuni.chat.reasoning import without_reasoning
from pairuni.chat.request import Answer
from pairuni.chat.values import Number, values_in


class Reply(BaseModel):
    """Base of all replies; flat, unknown keys are ignored.

    Values are accepted in the forms in which models write them: 3 for "3", "yes" for true, "7.5" for 7.5. The context
    {"most": 10.0} gives the denominator that "7/10" must have.
    """

    model_config = ConfigDict(extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _in_their_types(cls, given: Any, info: ValidationInfo) -> Any:
        if not isinstance(given, dict):
            return given
        named = _named(given, cls)
        most = (info.context or {}).get("most")
        return {name: _as(cls.model_fields[name].annotation, value, most) for name, value in named.items()}


class Unusable(Exception):
    """A reply that cannot be used; the message is the reason, quoted in the next prompt."""


T = TypeVar("T", bound=Reply)

_LONGEST_QUOTE = 200
_JSON_TYPES: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    float: {"type": "number"},
    list[str]: {"type": "array", "items": {"type": "string"}},
}
_UNFINISHED = re.compile(r"\{\s*[\"'“”„‘’`}]")
"""The start of an object, unlike a brace in prose or LaTeX."""
_TRUTH = re.compile(r"(yes|no|true|false)(?:$|\s*[.,;:!(\u2013\u2014-])", re.I)
_NUMBER = re.compile(r"([+-]?\d+(?:[.,]\d+)?)(?:\s*(?:/|out of)\s*(\d+(?:\.\d+)?))?(?:\s*points?)?\.?", re.I)
_PLACEHOLDER = re.compile(r"[\s.…]*[.…]{3}[\s.…]*|…|<[^<>]*>")


def schema_of(reply: type[Reply]) -> dict[str, Any]:
    """The JSON schema of a reply for strict structured outputs: flat, all keys required, no others."""
    properties = {name: _JSON_TYPES[field.annotation] for name, field in reply.model_fields.items()}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def read_reply(answer: Answer, kind: type[T], context: Mapping[str, Any] | None = None) -> T:
    """The reply in an answer: the last object in it that has the fields.

    An object within another one counts only if the other merely wraps it. Raises Unusable if the model refused, was
    cut off, or did not fill in the fields.
    """
    text = str(answer.get("text") or "")
    refusal = answer.get("refusal")
    if refusal or answer.get("finish") == "content_filter":
        raise Unusable(
            f"the model refused: {quoted(str(refusal or text or 'content filter'), _LONGEST_QUOTE)}"
        )
    text = without_reasoning(text).strip()
    cut = answer.get("finish") == "length"
    if not text:
        raise Unusable("the reply was cut off before it began" if cut else "the reply was empty")
    found = list(values_in(text))
    fault: str | None = None
    for _, end, value in reversed(found):
        if cut and _UNFINISHED.search(text, end):
            break
        for values in _wrapped(value):
            try:
                return _validated(kind, values, context)
            except Unusable as error:
                fault = fault or str(error)
    if fault is None and not _UNFINISHED.search(text):
        lines = _labelled_lines(text, kind)
        if lines is not None:
            return _validated(kind, lines, context)
    raise Unusable(
        fault or f"the reply {'was cut off' if cut else 'is not whole JSON'}: {quoted(text, _LONGEST_QUOTE)}"
    )


def _validated(kind: type[T], values: Any, context: Mapping[str, Any] | None) -> T:
    """Raises Unusable saying which field is missing or wrong."""
    try:
        reply = kind.model_validate(values, context=context)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"]))
        said = "is missing" if first["type"] == "missing" else f"is wrong ({first['msg'].lower()})"
        raise Unusable(f"the reply's {name} {said}") from None
    for name, field in kind.model_fields.items():
        value = getattr(reply, name)
        if field.is_required() and any(
            _PLACEHOLDER.fullmatch(text)
            for text in (value if isinstance(value, list) else [value])
            if text
            if isinstance(text, str)
        ):
            raise Unusable(f"the reply's {name} repeats the form of a reply instead of filling it in")
    return reply


def _wrapped(value: Any) -> Iterator[dict[str, Any]]:
    """An object and those that it wraps: {"reply": {...}}, [{...}], {"json": "{...}"}."""
    while True:
        if isinstance(value, dict):
            yield value
            inner = [one for one in map(_parsed, value.values()) if one is not None]
        else:
            inner = value if isinstance(value, list) else []
        if len(inner) != 1 or not isinstance(inner[0], dict | list):
            return
        value = inner[0]


def _parsed(value: Any) -> Any:
    """An object or an array of one object, also from a string of JSON; else None."""
    if isinstance(value, str) and value.lstrip()[:1] == "{":
        inner = [one for _, _, one in values_in(value)]
        value = inner[0] if len(inner) == 1 else None
    if isinstance(value, list):
        return value if len(value) == 1 and isinstance(value[0], dict) else None
    return value if isinstance(value, dict) else None


def _named(given: dict[str, Any], kind: type[Reply]) -> dict[str, Any]:
    """The values by field; names may differ in case, spaces, hyphens or underscores."""
    plain = {_plain(name): name for name in kind.model_fields}
    named: dict[str, Any] = {}
    for name, value in given.items():
        field = plain.get(_plain(name))
        if field is not None and (field not in named or name == field):
            named[field] = value
    return named


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).lower()


def _as(annotation: Any, value: Any, most: float | None) -> Any:
    """A value converted to the type of its field, or unchanged if it cannot be."""
    if annotation is str:
        return _as_text(value)
    if annotation is bool:
        return _as_truth(value)
    if annotation is float:
        return _as_number(value, most)
    if annotation == list[str]:
        return _as_texts(value)
    return value


def _as_text(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str) else value


def _as_texts(value: Any) -> Any:
    if isinstance(value, dict):  # by letter or number
        value = list(value.values())
    if isinstance(value, str):
        value = [part for part in re.split(r"\s*[;\n]\s*", value.strip()) if part]
    return [_as_text(one) for one in value] if isinstance(value, list) else value


def _as_truth(value: Any) -> Any:
    if isinstance(value, Number):
        number = _float(value)
        return bool(number) if number in (0.0, 1.0) else value
    if isinstance(value, str) and (said := _TRUTH.match(_unmarked(value))):
        return said[1].lower() in ("yes", "true")
    return value


def _as_number(value: Any, most: float | None) -> Any:
    said = _NUMBER.fullmatch(_unmarked(value)) if isinstance(value, str) else None
    if said is None:
        return value
    thousands = re.fullmatch(r"[+-]?\d{1,3},\d{3}", said[1])
    if thousands or (said[2] is not None and float(said[2]) != most):
        return value
    return float(said[1].replace(",", "."))


def _float(number: str) -> float | None:
    try:
        return float(number)
    except ValueError:
        return None


def _unmarked(text: str) -> str:
    """The text without surrounding Markdown and quotes."""
    return text.strip(" \t\r\n*_`\"'“”‘’")


def _labelled_lines(text: str, kind: type[Reply]) -> dict[str, Any] | None:
    """Values from lines that begin with a field's name and the lines that follow; None without such lines."""
    names = "|".join(kind.model_fields)
    label = re.compile(rf"^[\W_]*({names.replace('_', '[_ ]')})[\W_]*?[:=][*_\s]*(.*)$", re.I)
    values: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.split("\n"):
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
            read[name] = " ".join(lines)
    return read

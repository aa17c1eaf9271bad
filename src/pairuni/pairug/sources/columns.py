"""From a row's columns to a record's fields: names that are common, and what the user says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pairuni.pairug.sources.choices import letter_columns
from pairuni.pairug.sources.rows import Row
from pairuni.pairug.sources.shapes import IMAGES
from pairuni.pairug.sources.values import Unreadable, as_text, is_absent

COMMON = {
    "id": ("id",),
    "image_path": IMAGES,
    "question": ("question", "problem", "query"),
    "answer": ("answer",),
    "options": ("options", "choices"),
    "prompt": ("prompt", "caption", "captions", "text", "txt"),
    "tag": ("tag",),
}
"""Columns that are taken for a field when the user names none, the first that a row has."""

_ANY_CASE = ("image_path", "question", "answer", "options", "prompt")
"""Fields whose columns may be written in capitals, where none is in lower case."""
_PLACEHOLDER = re.compile(r"\{([^{}]*?)(?::0(\d{1,2}))?\}")


class Missing(ValueError):
    """A column that the user named and a row lacks."""


def fields_of(row: Row, raw: Row, wanted: tuple[str, ...], columns: Mapping[str, str]) -> dict[str, Any]:
    """The row's values under the names of fields; a column that was renamed is not kept under its own name too.

    raw: the row before its shape was taken apart, where columns that the user names are found too. Raises Missing.
    """
    taken: dict[str, Any] = {}
    renamed: set[str] = set()
    for field in wanted:
        given = columns.get(field)
        if given is None:
            present = common_columns(field, row.values)
            column = next((name for name in present if not is_absent(row.values[name])), None)
            letters = letter_columns(row.values) if field == "options" and column is None else {}
            if letters:
                taken[field] = {letter: row.values[name] for letter, name in letters.items()}
                renamed.update(letters.values())
            elif present:
                taken[field] = row.values[column or present[0]]
                renamed.add(column or present[0])
        elif given[:1] in ("'", '"'):
            taken[field] = _PLACEHOLDER.sub(lambda match: _filled(row, raw, *match.groups()), given[1:-1])
        elif given:
            taken[field] = look_up(row, raw, given)
            renamed.add(given)
    rest = {name: value for name, value in row.values.items() if name not in renamed}
    return {**{name: value for name, value in rest.items() if name not in wanted}, **taken}


def common_columns(field: str, names: Iterable[str]) -> list[str]:
    """Which of a row's columns are taken for a field, the first of them first."""
    names = list(names)
    present = [name for name in COMMON[field] if name in names]
    if present or field not in _ANY_CASE:
        return present
    return [name for known in COMMON[field] for name in names if str(name).casefold() == known]


def look_up(row: Row, raw: Row, column: str) -> Any:
    """A column's value; dots lead into objects and lists: captions.0, extra_info.id. Raises Missing."""
    for values in (row.values, raw.values):
        if column in values:
            return values[column]
    if column in row.empty:
        return None
    value: Any = {**raw.values, **row.values}
    for part in column.split("."):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list | tuple) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            raise Missing(f"has no column {column}; it has {', '.join(map(str, raw.values)) or 'none'}")
    return value


def _filled(row: Row, raw: Row, column: str, width: str | None) -> str:
    """A column's text in a template, with zeros in front up to a width. Raises Missing where it has none."""
    try:
        text = as_text(look_up(row, raw, column))
    except Unreadable as reason:
        raise Missing(f"cannot be filled in: column {column} {reason}") from None
    if not isinstance(text, str):
        kind = "no value" if text is None else f"a value of type {type(text).__name__}"
        raise Missing(f"cannot be filled in: column {column} holds {kind}")
    return text.zfill(int(width or 0))

"""From a row's columns to a record's fields: names that are common, and what the user says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pairuni.pairug.options import LETTERS, fault_of, lettered
from pairuni.pairug.sources.rows import Row

COMMON = {
    "id": ("id",),
    "image_path": ("image_path", "image", "images", "file_name"),
    "question": ("question",),
    "answer": ("answer",),
    "options": ("options",),
    "prompt": ("prompt", "caption", "captions", "text", "txt"),
    "tag": ("tag",),
}
"""Columns that are taken for a field when the user names none, the first that a row has."""

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_LISTED = re.compile(r"(?<![A-Za-z0-9])\(?A[.):]\s*\S.*(?<![A-Za-z0-9])\(?B[.):]\s*\S", re.S)


class Missing(ValueError):
    """A column that the user named and a row lacks."""


def fields_of(row: Row, wanted: tuple[str, ...], columns: Mapping[str, str]) -> dict[str, Any]:
    """The row's values under the names of fields; a column that was renamed is not kept under its own name too.

    Raises Missing.
    """
    taken: dict[str, Any] = {}
    renamed = set()
    for field in wanted:
        given = columns.get(field)
        if given is None:
            present = [name for name in COMMON[field] if name in row.values]
            if not present:
                continue
            column = next((name for name in present if row.values[name] is not None), present[0])
            taken[field] = row.values[column]
            renamed.add(column)
        elif given[:1] in ("'", '"'):
            taken[field] = _PLACEHOLDER.sub(lambda match: _filled(row, match[1]), given[1:-1])
        elif given:
            taken[field] = look_up(row, given)
            renamed.add(given)
    rest = {name: value for name, value in row.values.items() if name not in renamed}
    return {**{name: value for name, value in rest.items() if name not in wanted}, **taken}


def look_up(row: Row, column: str) -> Any:
    """A column's value; dots lead into objects and lists: captions.0, extra_info.id. Raises Missing."""
    value: Any = row.values
    if column in row.values:
        return row.values[column]
    for part in column.split("."):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            raise Missing(f"has no column {column}; it has {', '.join(map(str, row.values)) or 'none'}")
    return value


def as_text(value: Any) -> Any:
    """A value as a record's text: numbers and truth values written out, outer blanks gone; else as it is."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    return value


def first_text(value: Any) -> Any:
    """The first of several captions."""
    return as_text(value[0]) if isinstance(value, list) and value else as_text(value)


def with_options(question: str, answer: str, options: list[str]) -> tuple[str, str] | str:
    """The question with lettered options and the right one's letter, or why there is none.

    A question that lists its options already stays as it is. The letters keep the order of the data.
    """
    if _LISTED.search(question):
        return question, answer
    places = [place for place, option in enumerate(options) if option.casefold() == answer.casefold()]
    if not places and len(answer) == 1 and answer in LETTERS[: len(options)]:
        places = [LETTERS.index(answer)]
    if not places:
        return f"{answer!r} is none of the options {', '.join(map(repr, options))}"
    if len(options) > len(LETTERS):
        return f"there are {len(options)} options; at most {len(LETTERS)} can have a letter"
    right = options[places[0]]
    wrong = [option for place, option in enumerate(options) if place != places[0]]
    return fault_of(question, right, wrong) or (lettered(question, options), LETTERS[places[0]])


def _filled(row: Row, column: str) -> str:
    return str(as_text(look_up(row, column)))

"""JSON Lines and records: every problem names file, line, field and reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from pairuni.io.text import parse_json
from pairuni.records import Record

R = TypeVar("R", bound=Record)

_REASONS = {
    "missing": "is missing",
    "string_type": "must be a string",
    "string_too_short": "must not be empty",
    "string_unicode": "must be valid Unicode",
    "float_type": "must be a number",
    "finite_number": "must be finite",
    "bool_type": "must be true or false",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "dict_type": "must be an object",
}


@dataclass(frozen=True)
class Problem:
    """A problem of one line (row of a parquet file). field: empty if it concerns the line itself.

    member: the entry of an archive, array or folder, for inputs without line numbers.
    """

    file: Path
    line: int
    field: str
    reason: str
    member: str = ""

    @property
    def where(self) -> str:
        """The file, and the line or member."""
        where = f"{self.file}, line {self.line}" if self.line else str(self.file)
        return f"{where}, {self.member}" if self.member else where

    def __str__(self) -> str:
        field = f", field {self.field}" if self.field else ""
        return f"{self.where}{field}: {self.reason}"


def iter_objects(path: Path) -> Iterator[tuple[int, dict[str, Any] | Problem]]:
    """(line number, JSON object or problem) of each line that is not blank. Raises FileNotFoundError."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                found = parse_object(line, finite=True)
                yield number, Problem(path, number, "", found) if isinstance(found, str) else found


def parse_object(data: bytes, *, finite: bool = False) -> dict[str, Any] | str:
    """The JSON object in ``data``, or the reason why it is not one. finite: refuse NaN and infinities."""
    try:
        values = parse_json(data, finite=finite)
    except ValueError as error:
        return str(error)
    return values if isinstance(values, dict) else f"must be a JSON object, not {type(values).__name__}"


def validate(path: Path, number: int, values: dict[str, Any], kind: type[R]) -> R | list[Problem]:
    """The record made of the ``values`` of one line, or all problems with them."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        return [
            Problem(path, number, ".".join(map(str, details["loc"])), _reason(dict(details)))
            for details in error.errors(include_url=False)
        ]


def raise_first(problems: list[Problem]) -> None:
    """Raise ValueError for the first problem, if any, with the number of further problems."""
    if problems:
        rest = len(problems) - 1
        more = f" (and {rest} more problem{'s' if rest > 1 else ''})" if rest else ""
        raise ValueError(f"{problems[0]}{more}")


def dump_line(record: Record) -> str:
    """A record as one line of JSON, unknown keys included. Raises ValueError for values that JSON cannot hold."""
    return dump(record.model_dump()) + "\n"


def dump(values: Any) -> str:
    """``values`` as one line of standard JSON. Raises ValueError for NaN, infinities and other objects."""
    try:
        text = json.dumps(values, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"JSON cannot hold {str(values)[:80]!r}: {error}") from None
    return text


def _reason(details: dict[str, Any]) -> str:
    kind = details["type"]
    reason = _REASONS.get(kind) or details["msg"].replace("Input should be", "must be", 1)
    if kind in ("missing", "string_too_short", "first_image", "several_images"):
        return str(reason)
    given = repr(details["input"])
    return f"{reason}, not {given if len(given) <= 60 else given[:57] + '...'}"

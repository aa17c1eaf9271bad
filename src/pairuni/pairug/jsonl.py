"""JSON Lines in, records out: every fault is named by file, line, field and reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from pairuni.records import Record

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Problem:
    """What is wrong with one line; ``field`` is empty when it is the line as a whole."""

    file: Path
    line: int
    field: str
    reason: str

    def __str__(self) -> str:
        where = f", field {self.field}" if self.field else ""
        return f"{self.file}, line {self.line}{where}: {self.reason}"


def iter_records(path: Path, kind: type[R]) -> Iterator[tuple[int, R | Problem]]:
    """Each line's number and its record, or what is wrong with it. Empty lines are passed over.

    Raises FileNotFoundError when there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield number, _record(path, number, line, kind)


def read_records(path: Path, kind: type[R]) -> list[R]:
    """All records of a file. Raises ValueError naming the first bad line and how many more there are."""
    records: list[R] = []
    problems: list[Problem] = []
    for _, found in iter_records(path, kind):
        if isinstance(found, Problem):
            problems.append(found)
        else:
            records.append(found)
    raise_first(problems)
    return records


def raise_first(problems: list[Problem]) -> None:
    """Raise ValueError for the first problem, saying how many more there are; nothing when there is none."""
    if problems:
        more = f" (and {len(problems) - 1} more bad lines)" if len(problems) > 1 else ""
        raise ValueError(f"{problems[0]}{more}")


def dump_line(record: Record) -> str:
    """A record as one line of JSON, unknown keys included."""
    return json.dumps(record.model_dump(), ensure_ascii=False) + "\n"


def _record(path: Path, number: int, line: bytes, kind: type[R]) -> R | Problem:
    try:
        values = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        return Problem(path, number, "", "is not UTF-8 text")
    except json.JSONDecodeError as error:
        return Problem(path, number, "", f"is not whole JSON ({error.msg} at column {error.colno})")
    if not isinstance(values, dict):
        return Problem(path, number, "", f"must be a JSON object, not {type(values).__name__}")
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].replace("Input should be", "must be").replace("Field required", "is missing")
        given = "" if first["type"] == "missing" else f", but is {str(first['input'])[:60]!r}"
        return Problem(path, number, field, reason + given)

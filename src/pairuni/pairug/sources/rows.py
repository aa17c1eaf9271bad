"""JSON Lines and JSON arrays as rows. One row at a time is in memory."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from pairuni.io.text import decode_text
from pairuni.pairug.jsonl import Problem, iter_objects, parse_object

_CHUNK = 1 << 20
_LONGEST = 1 << 26
"""Of an array's element, in characters; beyond it a bracket was never closed."""


_LARGEST_OBJECT = 1 << 28
"""Bytes of a file that is tried as a single object: an array or lines are read as a stream."""
_AROUND = ("annotations", "questions", "data", "samples", "records", "rows", "examples", "items", "instances")
"""Keys of an object under which data sets keep all their records."""


@dataclass(frozen=True)
class Row:
    """One raw record as its file holds it: column -> value, and where it stands.

    id, tag: what the record is called and counted under if it says nothing itself. An image column holds a
    path, or {"bytes", "path"} with the image's bytes. left_out: why a record in order is not used. typed: whether
    its file tells a number from a text. notes: what of the row is not kept. empty: columns of a table without a value.
    """

    file: Path
    values: dict[str, Any]
    line: int = 0
    member: str = ""
    id: str | None = None
    tag: str = ""
    left_out: str = ""
    typed: bool = True
    notes: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()

    def problem(self, field: str, reason: str) -> Problem:
        """What is wrong with this row."""
        return Problem(self.file, self.line, field, reason, self.member)


Rows = Iterator[Row | Problem]


def text_columns(suffix: str, data: bytes) -> dict[str, Any] | str:
    """The columns of a text beside an image, or why there are none: the keys of a .json, else ``txt``."""
    if suffix == ".json":
        return parse_object(data)
    try:
        return {"txt": decode_text(data)}
    except ValueError as error:
        return str(error)


def json_lines(path: Path) -> Rows:
    """A row for each line; lines that are no JSON object are problems. Raises FileNotFoundError."""
    for number, values in iter_objects(path):
        yield values if isinstance(values, Problem) else Row(path, values, number, tag=path.stem)


def json_file(path: Path) -> Rows:
    """A JSON array's objects; of a file that does not begin with a bracket the one object that it is, or its lines."""
    with path.open("rb") as file:
        first = file.read(4096).removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    if first == b"[":
        yield from _array(path)
        return
    rows = json_lines(path)
    begun = list(islice(rows, 2))
    if begun and (len(begun) == 1 or isinstance(begun[0], Problem)):
        whole = parse_object(path.read_bytes()) if path.stat().st_size <= _LARGEST_OBJECT else ""
        if isinstance(whole, dict):
            yield _object(path, whole)
            return
    yield from begun
    yield from rows


def _object(path: Path, values: dict[str, Any]) -> Row | Problem:
    """A file's only object as a row, unless it is one around all records, as COCO, VQA and GQA have it."""
    inside = next((f".{name}[]" for name in _AROUND if isinstance(values.get(name), list)), None)
    if values and all(isinstance(value, dict) for value in values.values()):
        inside = ".[]"
    if inside is None:
        return Row(path, values, 1, tag=path.stem)
    reason = "is one object around its records, which must be JSON Lines or an array"
    command = f"jq -c '{inside}' {path.name} > {path.stem}.jsonl"
    return Problem(path, 0, "", f"{reason}: {command}")


def _array(path: Path) -> Rows:
    """Decoded element by element: an array of gigabytes never stands in memory as a whole."""
    decoder = json.JSONDecoder()
    text, start, number, ended, comma = "", 0, 0, False, True
    with path.open(encoding="utf-8-sig") as file:
        try:
            text = file.read(_CHUNK).lstrip()
            start = 1
            while True:
                start = _skip(text, start)
                if text[start : start + 1] == "]":
                    if text[start + 1 :].strip() or any(
                        more.strip() for more in iter(partial(file.read, _CHUNK), "")
                    ):
                        yield Problem(path, 0, "", "goes on after the closing bracket; the rest is not read")
                    return
                if text[start : start + 1] == "," and not comma:
                    start, comma = start + 1, True
                    continue
                if start < len(text) and not comma:
                    yield Problem(path, 0, "", "lacks a comma; the rest is not read", f"after entry {number}")
                    return
                try:
                    if start == len(text):
                        raise json.JSONDecodeError("the array is not closed", text, start)
                    values, end = decoder.raw_decode(text, start)
                except json.JSONDecodeError as error:
                    if ended or len(text) - start > _LONGEST:
                        yield Problem(path, 0, "", f"is not valid JSON ({error.msg})", f"entry {number + 1}")
                        return
                    more = file.read(max(_CHUNK, len(text) - start))
                    text, start, ended = text[start:] + more, 0, not more
                    continue
                start, number, comma = end, number + 1, False
                if isinstance(values, dict):
                    yield Row(path, values, member=f"entry {number}", tag=path.stem)
                else:
                    reason = f"must be a JSON object, not {type(values).__name__}"
                    yield Problem(path, 0, "", reason, f"entry {number}")
        except UnicodeDecodeError:
            yield Problem(path, 0, "", "is not UTF-8 text", f"after entry {number}")
        except (ValueError, RecursionError) as error:
            yield Problem(path, 0, "", f"is not readable JSON ({error})", f"entry {number + 1}")


def _skip(text: str, start: int) -> int:
    while start < len(text) and text[start] in " \t\r\n":
        start += 1
    return start

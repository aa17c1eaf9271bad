"""JSON Lines and JSON arrays as rows, streamed: one record at a time is in memory."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from pairuni.pairug.jsonl import Problem, iter_objects, parse_object
from pairuni.pairug.sources.readers.rows import Row, Rows

_CHUNK = 1 << 20
_LONGEST = 1 << 26
"""Characters of one array element; a longer one is an unclosed bracket."""
_LARGEST_OBJECT = 1 << 28
"""Bytes of a file that is parsed as a single object; arrays and lines are streamed."""
_RECORD_KEYS = (
    "annotations",
    "questions",
    "data",
    "samples",
    "records",
    "rows",
    "examples",
    "items",
    "instances",
)
"""Keys under which data sets nest all their records in one object."""
_SPACE = re.compile(r"[ \t\r\n]*")


def json_lines(path: Path) -> Rows:
    """A row for each line; lines that are not a JSON object are problems. Raises FileNotFoundError."""
    for number, values in iter_objects(path):
        yield values if isinstance(values, Problem) else Row(path, values, number, tag=path.stem)


def json_file(path: Path) -> Rows:
    """The objects of a JSON array; of a file that does not begin with a bracket, its only object or its lines."""
    with path.open("rb") as file:
        first = file.read(4096).removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    if first == b"[":
        yield from _array(path)
        return
    rows = json_lines(path)
    begun = list(islice(rows, 2))
    if begun and (len(begun) == 1 or isinstance(begun[0], Problem)):
        only = parse_object(path.read_bytes()) if path.stat().st_size <= _LARGEST_OBJECT else ""
        if isinstance(only, dict):
            yield _object(path, only)
            return
    yield from begun
    yield from rows


def _object(path: Path, values: dict[str, Any]) -> Row | Problem:
    """The only object of a file as a row, unless all records are nested in it, as in COCO, VQA and GQA."""
    inside = next((f".{name}[]" for name in _RECORD_KEYS if isinstance(values.get(name), list)), None)
    if values and all(isinstance(value, dict) for value in values.values()):
        inside = ".[]"
    if inside is None:
        return Row(path, values, 1, tag=path.stem)
    reason = "is one object that contains all records; convert it to JSON Lines"
    command = f"jq -c '{inside}' {path.name} > {path.stem}.jsonl"
    return Problem(path, 0, "", f"{reason}: {command}")


class _MalformedArray(Exception):
    """place: where, in terms of {last} and {next}, the numbers of the elements around the fault."""

    def __init__(self, reason: str, place: str = "") -> None:
        super().__init__(reason)
        self.place = place


def _array(path: Path) -> Rows:
    number = 0
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, values in enumerate(_elements(file), start=1):
                if isinstance(values, dict):
                    yield Row(path, values, member=f"entry {number}", tag=path.stem)
                else:
                    reason = f"must be a JSON object, not {type(values).__name__}"
                    yield Problem(path, 0, "", reason, f"entry {number}")
    except _MalformedArray as error:
        yield Problem(path, 0, "", str(error), error.place.format(last=number, next=number + 1))
    except UnicodeDecodeError:
        yield Problem(path, 0, "", "is not UTF-8 text", f"after entry {number}")
    except (ValueError, RecursionError) as error:
        yield Problem(path, 0, "", f"is not readable JSON ({error})", f"entry {number + 1}")


def _elements(file: TextIO) -> Iterator[Any]:
    """The elements of an array, which is read in chunks. Raises _MalformedArray, and ValueError as ``json`` does."""
    decoder = json.JSONDecoder()
    text, start = file.read(_CHUNK).lstrip(), 1
    ended = needs_comma = False
    while True:
        space = _SPACE.match(text, start)
        start = space.end() if space else start
        following = text[start : start + 1]
        if following == "]":
            if text[start + 1 :].strip() or any(
                more.strip() for more in iter(partial(file.read, _CHUNK), "")
            ):
                raise _MalformedArray("continues after the closing bracket; the rest is not read")
            return
        if following == "," and needs_comma:
            start, needs_comma = start + 1, False
            continue
        if following and needs_comma:
            raise _MalformedArray("lacks a comma; the rest is not read", "after entry {last}")
        try:
            if not following:
                raise json.JSONDecodeError("the array is not closed", text, start)
            values, start = decoder.raw_decode(text, start)
        except json.JSONDecodeError as error:
            if ended or len(text) - start > _LONGEST:
                raise _MalformedArray(f"is not valid JSON ({error.msg})", "entry {next}") from None
            more = file.read(max(_CHUNK, len(text) - start))
            text, start, ended = text[start:] + more, 0, not more
            continue
        needs_comma = True
        yield values

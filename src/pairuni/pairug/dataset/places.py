"""Finds values in a pair file and the completed samples next to it, for error messages."""

from __future__ import annotations

from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

from pairuni.pairug.dataset.parquet import SIDES, iter_rows
from pairuni.pairug.dataset.store import QUADRUPLES
from pairuni.pairug.jsonl import Problem, iter_objects

Wanted = tuple[str, str]
"""A field of a pair, such as understand_ann.question, and its value."""


def find_places(path: Path, wanted: Set[Wanted]) -> dict[Wanted, str]:
    """(field, value) -> where it first occurs: file, line (row) and field.

    Because pairings move sides, the other side and the completed samples are searched too. Values that are not
    found are omitted.
    """
    exact: dict[Wanted, str] = {}
    moved: dict[Wanted, str] = {}
    fields = {(_key(field), value) for field, value in wanted}
    for place, values in _values(path):
        if len(exact) == len(wanted):
            break
        for field, value in values:
            if (_key(field), value) in fields:
                moved.setdefault((_key(field), value), f"{place}, field {field}")
                if (field, value) in wanted:
                    exact.setdefault((field, value), f"{place}, field {field}")
    places = {one: exact.get(one) or moved.get((_key(one[0]), one[1])) for one in wanted}
    return {one: place for one, place in places.items() if place is not None}


def _key(field: str) -> str:
    return field.rpartition(".")[2]


def _values(path: Path) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    rows: Iterator[tuple[int, dict[str, Any] | Problem]]
    if path.suffix == ".parquet":
        rows = ((number, values) for number, values, _ in iter_rows(path))
    else:
        rows = iter_objects(path)
    for number, values in rows:
        if isinstance(values, Problem):
            continue
        sides = {side: values.get(side) for side in reversed(SIDES)}
        yield (
            f"{path}, line {number}",
            [
                (f"{side}.{key}", text)
                for side, content in sides.items()
                if isinstance(content, dict)
                for key, text in _texts(content)
            ],
        )
    samples = path.with_name(QUADRUPLES)
    if samples.is_file():
        for number, values in iter_objects(samples):
            if isinstance(values, dict):
                yield f"{samples}, line {number}", list(_texts(values))


def _texts(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Keys and texts; a list of texts, such as image_paths, has several under one key."""
    for key, value in values.items():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str):
                yield key, text

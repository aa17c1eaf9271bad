"""Reads and writes the JSON files of benchmarks; errors name file and line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pairuni.io.files import write_text
from pairuni.io.text import json_lines, read_json

Needed = type | tuple[type, ...]

_IN_WORDS = {str: "text", int: "a whole number", bool: "true or false", list: "a list", dict: "an object"}


def read_rows(path: Path, **needed: Needed) -> list[dict[str, Any]]:
    """The objects of a JSON Lines file, blank lines left out.

    Raises ValueError naming file and line when one is not a JSON object, lacks a key of ``needed`` or has another
    kind of value there.
    """
    return [checked(row, f"{path}, line {number}", needed) for number, row in json_lines(path)]


def read_list(path: Path, **needed: Needed) -> list[dict[str, Any]]:
    """The objects of a JSON array. Raises ValueError naming file and position as ``read_rows`` does."""
    content = read_json(path)
    if not isinstance(content, list):
        raise ValueError(f"{path}: expected a JSON array")
    return [checked(row, f"{path}, item {number}", needed) for number, row in enumerate(content, start=1)]


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON Lines, one object per line."""
    write_text(path, as_lines(rows))


def as_lines(rows: Iterable[Mapping[str, Any]]) -> str:
    """JSON Lines text, one object per line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def checked(row: Any, where: str, needed: Mapping[str, Needed]) -> dict[str, Any]:
    """The row, checked to be an object with values of these types. Raises ValueError that begins with ``where``."""
    if not isinstance(row, dict):
        raise ValueError(f"{where}: expected a JSON object")
    missing = [key for key in needed if key not in row]
    if missing:
        raise ValueError(f"{where}: lacks {', '.join(missing)}")
    for key, kinds in needed.items():
        if not isinstance(row[key], kinds):
            wanted = " or ".join(
                _IN_WORDS[kind] for kind in (kinds if isinstance(kinds, tuple) else (kinds,))
            )
            raise ValueError(f"{where}: {key} must be {wanted}, not {str(row[key])[:80]!r}")
    return row

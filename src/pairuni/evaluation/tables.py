"""Data sets as tables with embedded images: the hub's parquet, VLMEvalKit's TSV."""

from __future__ import annotations

import base64
import binascii
import csv
import sys
from pathlib import Path
from typing import Any

from pairuni.io.parquet import read_batches

_SHORTEST_IMAGE = 64
"""In characters; a shorter cell in a TSV's image column is the index of the row that has the image."""


def read_table(path: Path, *needed: str) -> list[dict[str, Any]]:
    """The rows of a .parquet or .tsv file; images become bytes, cells without an image None.

    Raises ValueError naming the file if it lacks a column of ``needed`` or cannot be read.
    """
    rows = _parquet(path) if path.suffix == ".parquet" else _tsv(path)
    missing = [name for name in needed if rows and name not in rows[0]]
    if missing or not rows:
        raise ValueError(f"{path}: lacks {'rows' if not rows else 'the columns ' + ', '.join(missing)}")
    return rows


def _parquet(path: Path) -> list[dict[str, Any]]:
    return [{name: _bytes(cell) for name, cell in row.items()} for rows in read_batches(path) for row in rows]


def _bytes(cell: Any) -> Any:
    """The bytes of the hub's image cells, which are {"bytes", "path"}; other cells unchanged."""
    return cell["bytes"] if isinstance(cell, dict) and "bytes" in cell else cell


def _tsv(path: Path) -> list[dict[str, Any]]:
    csv.field_size_limit(sys.maxsize)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows: list[dict[str, Any]] = list(csv.DictReader(file, delimiter="\t"))
        images = {row["index"]: row["image"] for row in rows if "image" in row}
        for row in rows:
            if "image" in row:
                cell = row["image"]
                row["image"] = base64.b64decode(images[cell] if len(cell) < _SHORTEST_IMAGE else cell)
    except (csv.Error, UnicodeDecodeError, binascii.Error, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a VLMEvalKit table ({error!r})") from None
    return rows

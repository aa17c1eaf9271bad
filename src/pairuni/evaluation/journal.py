"""Finished work by key, in an append-only file; a resumed run skips these keys."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from pairuni.io.journal import JournalFile, complete_lines
from pairuni.io.text import parse_json


class Journal:
    """A file of {"key", "value"} lines; all values stay in memory. Safe between threads.

    Lines that are added together are written in one piece and are on the disk when ``add`` returns. ``with
    journal:`` opens the file and locks out other processes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._values: dict[str, Any] = {}

    def __enter__(self) -> Self:
        """Raises ValueError when another process has the file open, or a line cannot be read."""
        self._file = JournalFile(self.path)
        self._file.lock("another process is using this file; wait for it to finish")
        try:
            self._values = _values(self.path, self._file.lines())
        except ValueError:
            self._file.close()
            raise
        return self

    def __exit__(self, *raised: object) -> None:
        with self._lock:
            self._file.close()

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def add(self, values: Mapping[str, Any]) -> None:
        """Write values under keys that are new."""
        rows = ({"key": key, "value": value} for key, value in values.items())
        data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8")
        with self._lock:
            twice = [key for key in values if key in self._values]
            assert not twice, twice
            self._file.append(data, sync=True)
            self._values.update(values)


def read_journal(path: Path) -> dict[str, Any]:
    """The values by key, empty if there is no file. Raises ValueError naming file and line of an invalid one."""
    return _values(path, complete_lines(path)) if path.exists() else {}


def _values(path: Path, lines: Iterable[tuple[int, int, bytes]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for number, _, line in lines:
        try:
            row = parse_json(line)
            values[row["key"]] = row["value"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path}, line {number}: not a record of this run ({error}); remove the line to run it again"
            ) from None
    return values

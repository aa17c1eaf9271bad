"""Logs of a run that is still training, read as they grow."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from pairuni.runs.reading import object_of

Row = TypeVar("Row")


class FollowedLog(Generic[Row]):
    """The rows of a JSON Lines file that may grow, be rewound by a resume, or not exist yet.

    make: a row from its file and line, and its object, such as ``metrics_row``. Each line is parsed once.
    """

    def __init__(self, path: Path, make: Callable[[str, dict[str, Any]], Row]) -> None:
        self.path = path
        self.rows: list[Row] = []
        self._make = make
        self._file: tuple[int, int] | None = None
        self._end = self._lines = 0

    def update(self) -> bool:
        """Read the lines that have been completed since; whether ``rows`` has changed.

        A last line without its end is left for later. Raises ValueError naming a damaged line, or a file that cannot
        be read; ``rows`` then stay as they were.
        """
        try:
            file, start, data = self._read()
        except FileNotFoundError:
            changed = bool(self.rows)
            self.rows, self._file, self._end, self._lines = [], None, 0, 0
            return changed
        except OSError as error:
            raise ValueError(f"{self.path}: cannot be read: {error.strerror or error}") from None
        before = self._lines if start else 0
        complete = data[: data.rfind(b"\n") + 1]
        new = [
            self._make(where, object_of(line, where))
            for number, line in enumerate(complete.split(b"\n")[:-1], start=before + 1)
            if line.strip() and (where := f"{self.path}, line {number}")
        ]
        changed = bool(new) or (not start and bool(self.rows))
        self.rows = [*self.rows, *new] if start else new
        self._file, self._end, self._lines = file, start + len(complete), before + complete.count(b"\n")
        return changed

    def _read(self) -> tuple[tuple[int, int], int, bytes]:
        """The file's identity, where reading began, and the bytes from there on."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as opened:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise ValueError(f"{self.path}: is not a regular file")
            file = (found.st_dev, found.st_ino)
            # a resume replaces the file by a shorter one
            start = self._end if file == self._file and found.st_size >= self._end else 0
            opened.seek(start)
            return file, start, opened.read()

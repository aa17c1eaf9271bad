"""What is done, by key, in a file that only grows: what is there is never done again."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pairuni.io.text import parse_json

logger = logging.getLogger("pairuni")


class Journal:
    """A file of {"key", "value"} lines; all values stay in memory. Safe between threads.

    Lines that are added together are written in one piece and are on the disk when ``add`` returns. While
    entered, no other process can enter the same file; what a kill left of a last line is cut off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._values: dict[str, Any] = {}

    def __enter__(self) -> Self:
        """Raises ValueError when another process is at work here, or a line cannot be read."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise ValueError(f"{self.path}: another process is at work here; wait for its end") from None
        except OSError as error:
            logger.warning("%s: no locks here (%s); start one process at a time", self.path, error)
        try:
            self._values, end = read_journal(self.path)
        except ValueError:
            os.close(self._file)
            raise
        os.ftruncate(self._file, end)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            os.close(self._file)
            self._file = -1  # a thread that is late must not write into another file of this number

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def add(self, values: Mapping[str, Any]) -> None:
        """Write values down under keys that are new."""
        rows = ({"key": key, "value": value} for key, value in values.items())
        data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8")
        with self._lock:
            twice = [key for key in values if key in self._values]
            assert not twice, twice
            end = os.fstat(self._file).st_size
            try:
                written = 0
                while written < len(data):
                    written += os.write(self._file, data[written:])
                os.fsync(self._file)
            except OSError as error:
                os.ftruncate(self._file, end)
                raise OSError(error.errno, error.strerror, str(self.path)) from None
            self._values.update(values)


def read_journal(path: Path) -> tuple[dict[str, Any], int]:
    """The values by key, and where the last whole line ends. Raises ValueError naming file and line of a bad one."""
    values: dict[str, Any] = {}
    end = 0
    if not path.exists():
        return values, end
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                break
            try:
                row = parse_json(line)
                values[row["key"]] = row["value"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{path}, line {number}: not a record of this run ({error}); remove the line to run it again"
                ) from None
            end += len(line)
    return values, end

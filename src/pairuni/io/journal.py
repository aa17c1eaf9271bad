"""A file of lines that is only appended to, so that a killed process loses at most its last line."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger("pairuni")


class JournalFile:
    """An append-only file of lines, open for reading and writing. Callers serialise ``append`` between threads.

    Read ``lines`` to the end before the first ``append``, which removes what follows the last complete line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.end = 0
        """Where the last complete line ends, in bytes."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)

    @property
    def size(self) -> int:
        """Size on disk, in bytes."""
        return os.fstat(self._file).st_size

    def lock(self, in_use: str) -> None:
        """Lock the file against other processes. Raises ValueError with ``in_use`` if one holds it."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise ValueError(f"{self.path}: {in_use}") from None
        except OSError as error:
            logger.warning(
                "%s: this file system does not support locks (%s); run one process at a time",
                self.path,
                error,
            )

    def lines(self) -> Iterator[tuple[int, int, bytes]]:
        """Each complete line as (number from 1, offset in bytes, bytes)."""
        self.end = 0
        for number, start, line in complete_lines(self.path):
            self.end = start + len(line)
            yield number, start, line

    def read(self, start: int, length: int) -> bytes:
        """Bytes at an offset."""
        return os.pread(self._file, length, start)

    def append(self, data: bytes, *, sync: bool = False) -> int:
        """Write complete lines in one piece and return their offset. sync: flush them to the disk.

        Raises OSError with the path, for instance when the disk is full; the file then is as before.
        """
        start = self.end
        try:
            os.ftruncate(self._file, start)
            written = 0
            while written < len(data):
                written += os.write(self._file, data[written:])
            if sync:
                os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, start)
            raise OSError(error.errno, error.strerror, str(self.path)) from None
        self.end = start + len(data)
        return start

    def sync(self) -> None:
        """Flush the file to the disk."""
        os.fsync(self._file)

    def close(self) -> None:
        """Close the file; a thread that appends later gets OSError."""
        descriptor, self._file = self._file, -1
        os.close(descriptor)


def complete_lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Each line that ends with a line break, as (number from 1, offset in bytes, bytes)."""
    start = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                return
            yield number, start, line
            start += len(line)

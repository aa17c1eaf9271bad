"""Sequences of records that do not fit in memory: read from a file, or computed on access."""

from __future__ import annotations

import json
import os
import tempfile
from abc import abstractmethod
from array import array
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar, overload

from pairuni.pairug.jsonl import dump
from pairuni.records import Record

R = TypeVar("R", bound=Record)
T = TypeVar("T")


class Computed(Sequence[T]):
    """A sequence whose items ``_at`` computes on every access. A slice is a list."""

    @abstractmethod
    def _at(self, number: int) -> T: ...

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> list[T]: ...
    def __getitem__(self, place: int | slice) -> T | list[T]:
        if isinstance(place, slice):
            return [self._at(number) for number in range(*place.indices(len(self)))]
        return self._at(range(len(self))[place])


class Lazily(Computed[T]):
    """``length`` items, each computed from its number."""

    def __init__(self, length: int, make: Callable[[int], T]) -> None:
        self._length = length
        self._make = make

    def __len__(self) -> int:
        return self._length

    def _at(self, number: int) -> T:
        return self._make(number)


class RecordFile(Computed[R]):
    """Records in an anonymous temporary file, which the operating system removes; 8 bytes per record in memory.

    A record that is read equals the one that was appended. One thread appends, then any thread may read.
    kinds: classes of the records. Raises OSError when the disk is full.
    """

    def __init__(self, folder: Path, *kinds: type[R]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._kinds = kinds
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - open as long as the records are read
        self._ends = array("q", [0])
        self._unwritten = False

    def __len__(self) -> int:
        return len(self._ends) - 1

    def append(self, record: R) -> None:
        """Add a record at the end."""
        line = dump([self._kinds.index(type(record)), record.model_dump()]).encode()
        self._file.write(line)
        self._ends.append(self._ends[-1] + len(line))
        self._unwritten = True

    def extend(self, records: Iterable[R]) -> None:
        """Add records at the end, in their order."""
        for record in records:
            self.append(record)

    def _at(self, number: int) -> R:
        if self._unwritten:
            self._file.flush()
            self._unwritten = False
        start, end = self._ends[number], self._ends[number + 1]
        kind, values = json.loads(os.pread(self._file.fileno(), end - start, start))
        return self._kinds[kind].model_validate(values)


def picked(records: Sequence[T], numbers: Iterable[int]) -> Lazily[T]:
    """Some of the records, by number; 8 bytes per record."""
    chosen = array("q", numbers)
    return Lazily(len(chosen), lambda number: records[chosen[number]])

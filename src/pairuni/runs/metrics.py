"""metrics.jsonl and the other logs of a run: one JSON object per line, each with a ``step``."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairuni.io.files import flush_to_disk, write_text
from pairuni.runs.reading import Count, Number, Part, checked, read_rows, read_undamaged_rows

AGREEMENT = "gradient_agreement"
"""Name of the agreement over all parameters; that of a group is ``gradient_agreement/<group>``."""


class MetricsLog:
    """An append-only JSON Lines file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one complete line or nothing. Numbers that JSON lacks (nan, inf) become null.

        Raises OSError naming the file when the disk is full or not writable.
        """
        line = json.dumps({key: _finite(value) for key, value in row.items()}, ensure_ascii=False)
        data = (line + "\n").encode("utf-8", errors="replace")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab", buffering=0) as file:
                end = file.seek(0, os.SEEK_END)
                try:
                    if file.write(data) != len(data):  # a short write: the disk is full
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                except OSError:
                    file.truncate(end)
                    raise
        except OSError as error:
            reason = f"the line could not be written ({error.strerror or error}); the old content is intact"
            raise OSError(error.errno, reason, str(self.path)) from error

    def flush(self) -> None:
        """Wait until all lines are on disk, so that no later write survives without them."""
        if self.path.exists():
            flush_to_disk(self.path)

    def rows(self) -> list[dict[str, Any]]:
        """All complete lines; a last line that a kill cut short is left out. Raises ValueError naming a bad line."""
        return [row for _, row in read_rows(self.path)]

    def rewind(self, step: int) -> None:
        """Drop lines after ``step`` and an incomplete last line: a resumed run writes them again."""
        if not self.path.exists():
            return
        kept = [row for where, row in read_rows(self.path) if checked(_Step, row, where).step <= step]
        write_text(self.path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept))


@dataclass(frozen=True)
class MetricsRow:
    """A line of metrics.jsonl. where: its file and line."""

    step: int
    values: Mapping[str, Any]
    where: str

    def value(self, key: str) -> float | None:
        """A measurement, or None if there is none. Raises ValueError unless it is a finite number."""
        value = self.values.get(key)
        return None if value is None else checked(_Measured, {"value": value}, f"{self.where}: {key}").value


def series(rows: Iterable[MetricsRow], key: str) -> tuple[list[float], list[float]]:
    """The steps that have a measurement, and its values. Raises ValueError as ``MetricsRow.value`` does."""
    found = [(row.step, value) for row in rows if (value := row.value(key)) is not None]
    return [float(step) for step, _ in found], [value for _, value in found]


def read_metrics(path: Path) -> list[MetricsRow]:
    """All complete lines; none if the file is missing. Raises ValueError naming file and line."""
    return [metrics_row(where, row) for where, row in read_rows(path)]


def read_undamaged_metrics(path: Path) -> tuple[list[MetricsRow], str | None]:
    """All lines but a damaged or incomplete last one, and a sentence that says so if there is one."""
    rows, fault = read_undamaged_rows(path)
    return [metrics_row(where, row) for where, row in rows], fault


def metrics_row(where: str, row: dict[str, Any]) -> MetricsRow:
    """A line of metrics.jsonl. Raises ValueError, which begins with ``where``, unless it has a step."""
    return MetricsRow(checked(_Step, row, where).step, row, where)


class _Step(Part):
    step: Count


class _Measured(Part):
    value: Number


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value

"""What a run says while it goes: metrics.jsonl, an optional tracker, a progress line."""

from __future__ import annotations

import errno
import json
import math
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from pairuni.console.rich_output import Console
from pairuni.console.terminal import visible, visible_streams
from pairuni.io.files import flush_to_disk, write_text

_REMOVE = "correct or remove the line"


class Tracker(Protocol):
    """Where metrics go besides metrics.jsonl (trackio, wandb, tensorboard, ...)."""

    def log(self, metrics: Mapping[str, float], step: int) -> None: ...


class MetricsLog:
    """Append-only file of one JSON object a line, each with a ``step``: metrics.jsonl and its like."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one line, whole or not at all. Numbers that JSON lacks (nan, inf) become null.

        Raises OSError naming the file when the disk is full or refuses.
        """
        line = json.dumps({key: _plain(value) for key, value in row.items()}, ensure_ascii=False)
        data = (line + "\n").encode("utf-8", errors="replace")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab", buffering=0) as file:
                end = file.seek(0, os.SEEK_END)
                try:
                    if file.write(data) != len(
                        data
                    ):  # the disk took a part of it, and has no room for the rest
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                except OSError:
                    file.truncate(end)
                    raise
        except OSError as error:
            reason = f"the line could not be written ({error.strerror or error}); what was there is intact"
            raise OSError(error.errno, reason, str(self.path)) from error

    def flush(self) -> None:
        """Wait until all lines are on the disk, so that what is written later never outlives them."""
        if self.path.exists():
            flush_to_disk(self.path)

    def rows(self) -> list[dict[str, Any]]:
        """All whole lines. A last line that a kill cut in half is left out; any other bad line raises."""
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8", errors="replace").split("\n")
        rows = []
        for number, line in enumerate(lines[:-1], start=1):  # the last has no line end: empty, or cut in half
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{self.path}, line {number}: not JSON ({error}); {_REMOVE}") from error
            if not isinstance(row, dict):
                raise ValueError(f"{self.path}, line {number}: not a JSON object; {_REMOVE}")
            rows.append(row)
        return rows

    def rewind(self, step: int) -> None:
        """Drop lines after ``step``, and a half-written last line: what a resumed run will write again."""
        if not self.path.exists():
            return
        rows = self.rows()
        for number, row in enumerate(rows, start=1):
            if type(row.get("step")) is not int:
                raise ValueError(f"{self.path}, line {number}: step must be a whole number; {_REMOVE}")
        kept = [row for row in rows if row["step"] <= step]
        write_text(self.path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept))


def scores_in_words(scores: Mapping[str, float]) -> str:
    """Scores by name on one line."""
    return ", ".join(f"{name} {value:.3f}" for name, value in scores.items())


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Progress:
    """Steps done, rate and time left: a live bar on a terminal, a plain line now and then elsewhere.

    with Progress("train", total=100) as progress: ... progress.advance(status="reward 0.61")
    """

    def __init__(
        self,
        description: str,
        *,
        total: int,
        start: int = 0,
        unit: str = "steps",
        every_seconds: float = 15.0,
        console: RichConsole | None = None,
        began: float | None = None,
    ) -> None:
        """began: by the monotonic clock, where work was under way before this is entered."""
        self._description = visible(description, one_line=True)
        self._total = total
        self._start = self._done = start
        self._unit = unit
        self._every = every_seconds
        self._console: RichConsole = console or Console(stderr=True)
        self._given = began
        self._began = self._said = time.monotonic()
        self._bar: RichProgress | None = None
        self._streams = ExitStack()

    def __enter__(self) -> Self:
        self._began = self._said = time.monotonic()
        if self._given is not None:
            self._began = self._given
        if self._console.is_terminal:
            self._bar = RichProgress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TaskProgressColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[status]}", markup=False),
                console=self._console,
            )
            self._bar.start()
            self._streams.enter_context(visible_streams())  # above what rich redirects to lines above the bar
            self._task = self._bar.add_task(
                self._description, total=self._total, completed=self._start, status=""
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._streams.close()
        if self._bar is not None:
            self._bar.stop()

    @property
    def done(self) -> int:
        return self._done

    def advance(self, count: int = 1, *, status: str = "") -> None:
        """Count ``count`` more units as done and show ``status`` beside rate and ETA."""
        self._done += count
        now = time.monotonic()
        status = visible(f"{self._speed(now)} {status}".rstrip(), one_line=True)
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, status=status)
        elif now - self._said >= self._every or self._done >= self._total:
            self._said = now
            line = f"{self._description}: {self._done}/{self._total} {self._unit}, {status}"
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _speed(self, now: float) -> str:
        done = self._done - self._start
        seconds = max(now - self._began, 1e-9)
        rate = done / seconds
        left = (self._total - self._done) / rate if rate > 0 else math.inf
        shown = f"{rate:.2f} {self._unit}/s" if rate >= 1 else f"{60 * rate:.2f} {self._unit}/min"
        return f"{shown}, {_duration(left)} left"


class Stages:
    """A progress line for each stage in turn, named after ``prefix``; one that begins ends the one before."""

    def __init__(self, prefix: str = "", unit: str = "samples") -> None:
        self._prefix = prefix
        self._unit = unit
        self._stage = ""
        self._progress: Progress | None = None
        self._ended = time.monotonic()

    def __enter__(self) -> Self:
        self._ended = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def advance(self, stage: str, done: int, total: int) -> None:
        """Count ``done`` more of a stage's ``total`` items."""
        if stage != self._stage or self._progress is None:
            self._end()
            self._stage = stage
            # a stage is heard of first when some of it is done
            self._progress = Progress(
                self._prefix + stage, total=total, unit=self._unit, began=self._ended
            ).__enter__()
        self._progress.advance(done)

    def _end(self) -> None:
        if self._progress is not None:
            self._progress.__exit__(None, None, None)
            self._progress = None
            self._ended = time.monotonic()


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"

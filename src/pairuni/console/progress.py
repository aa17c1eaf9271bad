"""Progress of long work: a live bar on a terminal, an occasional plain line elsewhere."""

from __future__ import annotations

import io
import math
import time
from contextlib import ExitStack
from typing import Self

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress
from rich.table import Column
from rich.text import Text

from pairuni.console.rich_output import Console
from pairuni.console.terminal import visible, visible_streams


class Progress:
    """Shows units done, rate and time left.

    with Progress("train", total=100) as progress: ... progress.advance(status="reward 0.61")

    began: monotonic time at which the work began, if that was before the block is entered. quiet: show nothing.
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
        quiet: bool = False,
    ) -> None:
        self._description = visible(description, one_line=True)
        self._total = total
        self._start = self.done = start
        self._unit = unit
        self._every = every_seconds
        hidden = Console(file=io.StringIO(), quiet=True) if quiet else None
        self._console: RichConsole = hidden or console or Console(stderr=True)
        self._began = began
        self._bar: RichProgress | None = None
        self._streams = ExitStack()

    def __enter__(self) -> Self:
        self._printed_at = time.monotonic()
        self._began = self._printed_at if self._began is None else self._began
        if self._console.is_terminal:
            self._bar = RichProgress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=20),
                MofNCompleteColumn(table_column=Column(no_wrap=True)),
                TimeElapsedColumn(table_column=Column(no_wrap=True)),
                _Status(),
                console=self._console,
            )
            self._bar.start()
            self._streams.enter_context(visible_streams())  # rich redirects output to lines above the bar
            self._task = self._bar.add_task(
                self._description, total=self._total, completed=self._start, status=""
            )
        return self

    def __exit__(self, *raised: object) -> None:
        self._streams.close()
        if self._bar is not None:
            self._bar.stop()

    def advance(self, count: int = 1, *, status: str = "") -> None:
        """Count ``count`` more units as done; ``status`` is shown after the rate and the time left."""
        self.done += count
        now = time.monotonic()
        status = visible(f"{self._speed(now)} {status}".rstrip(), one_line=True)
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, status=status)
        elif now - self._printed_at >= self._every or self.done >= self._total:
            self._printed_at = now
            line = f"{self._description}: {self.done}/{self._total} {self._unit}, {status}"
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _speed(self, now: float) -> str:
        assert self._began is not None
        rate = (self.done - self._start) / max(now - self._began, 1e-9)
        left = (self._total - self.done) / rate if rate > 0 else math.inf
        shown = f"{rate:.2f} {self._unit}/s" if rate >= 1 else f"{60 * rate:.2f} {self._unit}/min"
        return f"{shown}, {_duration(left)} left"


class _Status(ProgressColumn):
    """What follows the counts. On a narrow terminal, this is what is cut off."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["status"], no_wrap=True, overflow="ellipsis")


class Stages:
    """Shows a ``Progress`` for one stage after another; their names follow ``prefix``."""

    def __init__(self, prefix: str = "", unit: str = "samples") -> None:
        self._prefix = prefix
        self._unit = unit
        self._stage = ""
        self._progress: Progress | None = None

    def __enter__(self) -> Self:
        self._ended = time.monotonic()
        return self

    def __exit__(self, *raised: object) -> None:
        self._end()

    def advance(self, stage: str, done: int, total: int) -> None:
        """Count ``done`` more of a stage's ``total`` items; a new stage ends the one before."""
        if stage != self._stage or self._progress is None:
            self._end()
            self._stage = stage
            # the first report of a stage comes when part of it is done, so it began when the last one ended
            progress = Progress(self._prefix + stage, total=total, unit=self._unit, began=self._ended)
            self._progress = progress.__enter__()
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

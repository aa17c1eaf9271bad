"""All trackers of a run."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from pairuni.runs.folder import RunFolder
from pairuni.runs.metrics import MetricsLog
from pairuni.runs.samples import read_samples
from pairuni.trackers.pictures import pictures_of
from pairuni.trackers.tracker import Picture, Tracker

logger = logging.getLogger("pairuni")


class Trackers:
    """Passes on what a run has written into its folder, each step once to each tracker.

    A resumed run repeats the steps after its checkpoint: a tracker that holds them keeps what it has, one that lacks
    steps gets them from the folder. A tracker that raises is left out from then on, with one warning; it never ends the
    run.
    """

    def __init__(self, run: RunFolder, trackers: Sequence[Tracker] = ()) -> None:
        self._run = run
        self._given = trackers
        self._open: dict[Tracker, int] = {}
        """The last step that each of them held when the run began."""
        self._sampled: set[int] = set()
        self._step = -1
        self._names: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._each(lambda tracker: tracker.close())
        self._open.clear()

    def begin(self) -> None:
        """Call before the first step, when the folder holds the complete steps and no others."""
        self._open = dict.fromkeys(self._given, -1)
        rows = MetricsLog(self._run.metrics).rows()

        def catch_up(tracker: Tracker) -> None:
            self._open[tracker] = last = tracker.begin()
            self._sampled = {sample.step for sample in read_samples(self._run.samples_log)}
            for row in rows:
                if (step := row["step"]) > last:
                    tracker.log(_numbers(row), self._pictures(step), step)

        self._each(catch_up)
        if rows:
            self._step, self._names = rows[-1]["step"], set(_numbers(rows[-1]))

    def sampled(self, step: int) -> None:
        """Call when samples of a step are in the folder: its metrics will come with pictures of them."""
        self._sampled.add(step)

    def log(self, row: Mapping[str, Any], step: int) -> None:
        """Pass on a line of metrics; of a step that was passed on before, only what is new."""
        numbers = _numbers(row)
        again = step == self._step
        new = {name: value for name, value in numbers.items() if not (again and name in self._names)}
        self._step, self._names = step, set(numbers) | (self._names if again else set())

        def send(tracker: Tracker) -> None:
            if again and new:
                tracker.log(new, [], step)
            elif step > self._open[tracker]:
                tracker.log(new, self._pictures(step), step)

        self._each(send)

    def _pictures(self, step: int) -> list[Picture]:
        if step not in self._sampled:
            return []
        return pictures_of(
            self._run, [sample for sample in read_samples(self._run.samples_log) if sample.step == step]
        )

    def _each(self, work: Callable[[Tracker], None]) -> None:
        for tracker in list(self._open):
            try:
                work(tracker)
            except Exception as error:
                reason = str(error).partition("\n")[0] or type(error).__name__
                logger.warning("%s failed, so the run goes on without it: %s", tracker.name, reason)
                del self._open[tracker]


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: value
        for name, value in row.items()
        if name != "step" and isinstance(value, int | float) and math.isfinite(value)
    }

"""Differences with their intervals, as points with whiskers on one axis around zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pairuni.records import Task
from pairuni.report.markup import escape, placed

_SMALLEST_SCALE = 0.01
"""Half the width of the axis, at least."""


@dataclass(frozen=True)
class Difference:
    """A difference of a score, with its 95% interval where there is one. shown: both as text."""

    name: str
    value: float
    interval: tuple[float, float] | None
    shown: str


def difference_card(task: Task, found: Sequence[Difference]) -> str:
    """A card with the differences of a task's scores, in points."""
    ends = [abs(end) for one in found for end in (one.value, *(one.interval or ()))]
    scale = max(_SMALLEST_SCALE, *ends)
    lines = "".join(
        f'<div class="difference"><span>{escape(one.name)}</span>{_track(one, scale)}</div>' for one in found
    )
    edge = f"{100 * scale:.1f}"
    return (
        f'<article class="card {task}"><h3>{task.capitalize()}</h3>{lines}<div class="difference"><span></span>'
        f'<div class="scale" aria-hidden="true"><span>−{edge}</span><span>0</span><span>+{edge}</span></div></div>'
        "</article>"
    )


def _track(one: Difference, scale: float) -> str:
    def at(value: float) -> float:
        return 50 * (1 + value / scale)

    whisker = ""
    if one.interval is not None:
        low, high = map(at, one.interval)
        whisker = f'<span class="whisker" {placed(left=f"{low:.2f}%", width=f"{high - low:.2f}%")}></span>'
    mark = f'<span class="mark" {placed(left=f"{at(one.value):.2f}%")}></span>'
    zero, label = '<span class="zero"></span>', escape(one.shown)
    return f'<div class="track" role="img" aria-label="{label}" title="{label}">{zero}{whisker}{mark}</div>'

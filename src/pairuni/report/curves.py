"""Line charts of values over steps; the pointer and the arrow keys read values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pairuni.report.axes import frame, nice_steps, number, share, x_axis
from pairuni.report.markup import escape
from pairuni.report.statistics import nice_ticks, smoothed, with_extremes

FEWEST_SMOOTHED = 15
"""Minimum number of values for smoothing."""
SMOOTHED_OVER = 5
"""The smoothing window is this part of a line."""
SMOOTHING = (
    f"Faint: the value of each step. Bold: smoothed by a moving linear fit over 1/{SMOOTHED_OVER} of the steps, from "
    f"{FEWEST_SMOOTHED} values on."
)
MOST_POINTS = 800
"""Points of a chart, of all its lines together; half as many of a small one."""
FEWEST_POINTS = 60
"""Points of each line that a chart of many lines keeps."""
_MOST_FAINT = 4
"""A chart with more lines than this has smoothed ones only."""
_MOST_MARKED = 30
"""Lines with at most this many values show each as a dot, unless they are smoothed."""


@dataclass(frozen=True)
class Line:
    """Values over rising steps, at least one. name: short, in charts of several lines; tone: class of its colour."""

    steps: Sequence[float]
    values: Sequence[float]
    name: str = ""
    tone: str = ""


@dataclass(frozen=True)
class _Drawn:
    """A line as drawn. smooth: None if it is not smoothed. of: the number of values before some were left out."""

    line: Line
    steps: Sequence[float]
    values: Sequence[float]
    smooth: Sequence[float] | None
    of: int

    @property
    def trend(self) -> Sequence[float]:
        return self.values if self.smooth is None else self.smooth


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    tone: str = "",
    low: float | None = None,
    high: float | None = None,
    small: bool = False,
) -> str:
    """A chart of one or several lines, each with its values and smoothed. low, high: the axis includes these.

    Of a long line, the lowest and the highest value of each stretch are drawn; a chart of one line says how many.
    """
    budget = MOST_POINTS // 2 if small else MOST_POINTS
    drawn = [_drawn(line, max(FEWEST_POINTS, budget // len(lines))) for line in lines]
    values = [
        *(value for one in drawn for value in (*one.values, *one.trend)),
        *(end for end in (low, high) if end is not None),
    ]
    ticks = nice_ticks(min(values), max(values), 2 if small else 4)
    first, last = min(one.steps[0] for one in drawn), max(one.steps[-1] for one in drawn)
    shapes = "".join(_shapes(one, (first, last), (ticks[0], ticks[-1]), len(drawn)) for one in drawn)
    steps = sorted({step for one in drawn for step in one.steps})
    plot = (
        f'<div class="plot" role="slider" tabindex="0" aria-label="{escape(_label(title, drawn, first, last))}" '
        f'aria-valuemin="0" aria-valuemax="{len(steps) - 1}" aria-valuenow="{len(steps) - 1}" '
        f'aria-valuetext="{escape(_said(drawn, last))}" data-chart="{escape(_data(drawn, first, last, ticks))}">'
        f'{frame(ticks)}<svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">{shapes}</svg>'
        f'<span class="cursor" hidden></span>{_dots(drawn)}</div>'
    )
    left_out = (
        f" <small>{len(drawn[0].steps):,} of {drawn[0].of:,} steps drawn</small>"
        if len(drawn) == 1 and len(drawn[0].steps) < drawn[0].of
        else ""
    )
    return (
        f'<figure class="chart{" small" if small else ""} {tone}">'
        f"<figcaption>{escape(title)}{left_out}</figcaption>{_readout(drawn, last)}{plot}"
        f"{x_axis(nice_steps(first, last, 3 if small else 5), first, last)}</figure>"
    )


def _drawn(line: Line, most: int) -> _Drawn:
    count = len(line.values)
    trend = smoothed(line.values, max(3, count // SMOOTHED_OVER)) if count >= FEWEST_SMOOTHED else None
    kept = with_extremes(line.values, most)

    def chosen(values: Sequence[float]) -> list[float]:
        return [values[index] for index in kept]

    return _Drawn(line, chosen(line.steps), chosen(line.values), trend and chosen(trend), count)


def _shapes(one: _Drawn, steps: tuple[float, float], values: tuple[float, float], lines: int) -> str:
    def points(own: Sequence[float]) -> list[str]:
        return [
            f"{share(step, *steps):.2f},{100 - share(value, *values):.2f}"
            for step, value in zip(one.steps, own, strict=True)
        ]

    tone = f" {one.line.tone}" if one.line.tone else ""
    shapes = ""
    if one.smooth is not None and lines <= _MOST_FAINT:
        shapes = f'<polyline class="each{tone}" points="{" ".join(points(one.values))}"/>'
    trend = points(one.trend)
    if len(trend) > 1:
        shapes += f'<polyline class="trend{tone}" points="{" ".join(trend)}"/>'
    if one.smooth is None and len(trend) <= _MOST_MARKED:
        marks = "".join(f"M{point}h0" for point in trend)
        shapes += f'<path class="points{tone}" d="{marks}"/>'
    return shapes


def _dots(drawn: Sequence[_Drawn]) -> str:
    return "".join(f'<span class="dot {one.line.tone}" hidden></span>' for one in drawn)


def _label(title: str, drawn: Sequence[_Drawn], first: float, last: float) -> str:
    start = f"{title} over steps {number(first)} to {number(last)}: "
    if len(drawn) > 1:
        return start + f"{len(drawn)} lines"
    (one,) = drawn
    smoothly = "" if one.smooth is None else "smoothed "
    return start + f"{smoothly}from {number(one.trend[0])} to {number(one.trend[-1])}"


def _said(drawn: Sequence[_Drawn], last: float) -> str:
    return f"{_at_step(drawn, last)}: " + ", ".join(
        f"{one.line.name} {''.join(_values(one, last, len(drawn)))}".strip() for one in drawn
    )


def _at_step(drawn: Sequence[_Drawn], step: float) -> str:
    smoothly = len(drawn) > 1 and any(one.smooth is not None for one in drawn)
    return f"step {number(step)}{', smoothed' if smoothly else ''}"


def _values(one: _Drawn, last: float, lines: int) -> tuple[str, str]:
    """The last value of a line in a readout, and what follows it: of several lines the smoothed value is the first."""
    more = "" if one.smooth is None or lines > 1 else f", smoothed {number(one.smooth[-1])}"
    more += "" if one.steps[-1] == last else f" at {number(one.steps[-1])}"
    return number(one.trend[-1] if lines > 1 else one.values[-1]), more


def _readout(drawn: Sequence[_Drawn], last: float) -> str:
    entries = []
    for one in drawn:
        value, more = _values(one, last, len(drawn))
        entries.append(
            f' <span class="{one.line.tone}">{_key(one.line)}<b>{value}</b><small>{more}</small></span>'
        )
    return f'<p class="readout" aria-hidden="true"><span>{_at_step(drawn, last)}</span>{"".join(entries)}</p>'


def _key(line: Line) -> str:
    return f'<i class="key"></i>{escape(line.name)} ' if line.name else ""


def _data(drawn: Sequence[_Drawn], first: float, last: float, ticks: Sequence[float]) -> str:
    def short(values: Sequence[float]) -> list[float]:
        return [float(f"{value:.6g}") for value in values]

    data: dict[str, Any] = {
        "x": [first, last],
        "y": [ticks[0], ticks[-1]],
        "lines": [
            {
                "name": one.line.name,
                "steps": [int(step) for step in one.steps],
                "values": short(one.values),
                "smooth": one.smooth and short(one.smooth),
            }
            for one in drawn
        ],
    }
    return json.dumps(data, separators=(",", ":"))

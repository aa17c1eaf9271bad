"""Charts as HTML and SVG. Lines stretch with the page and text does not: axes are HTML, placed by percentage."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from pairuni.report.markup import escape, placed
from pairuni.report.statistics import nice_ticks, smoothed

FEWEST_SMOOTHED = 15
"""Minimum number of values for smoothing."""


@dataclass(frozen=True)
class Series:
    """The values of a line chart over steps. low, high: the axis includes these."""

    title: str
    steps: Sequence[float]
    values: Sequence[float]
    tone: str = ""
    low: float | None = None
    high: float | None = None
    small: bool = False


def number(value: float) -> str:
    """A number in two to four digits: 0.613, 12.4, 1,204, 1.2e-06."""
    if value < 0:
        return "−" + number(-value)
    if value == 0:
        return "0"
    if value >= 1e12:
        return f"{value:.3g}"
    if value >= 1000:
        return f"{value:,.0f}"
    if value < 0.001:
        return f"{value:.1e}"
    return f"{value:.3g}"


def signed(value: float, decimals: int) -> str:
    """A number with its sign, +0.4 or −0.4; without one if it rounds to zero."""
    text = f"{value:+.{decimals}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def line_chart(series: Series) -> str:
    """A raw and a smoothed line over steps; the pointer and the arrow keys read values."""
    window = max(3, len(series.values) // 5) if len(series.values) >= FEWEST_SMOOTHED else 1
    smooth = smoothed(series.values, window)
    low = min([*series.values, *([] if series.low is None else [series.low])])
    high = max([*series.values, *([] if series.high is None else [series.high])])
    ticks = nice_ticks(low, high, 2 if series.small else 4)
    first, last = series.steps[0], series.steps[-1]
    points = [
        [_share(step, first, last), _share(value, ticks[0], ticks[-1]), _share(trend, ticks[0], ticks[-1])]
        for step, value, trend in zip(series.steps, series.values, smooth, strict=True)
    ]
    labels = [
        [number(step), number(value), number(trend)]
        for step, value, trend in zip(series.steps, series.values, smooth, strict=True)
    ]
    raw_line = " ".join(f"{x:.2f},{100 - y:.2f}" for x, y, _ in points)
    smooth_line = " ".join(f"{x:.2f},{100 - y:.2f}" for x, _, y in points)
    lines = (
        f'<polyline class="raw" points="{raw_line}"/><polyline class="smooth" points="{smooth_line}"/>'
        if len(points) > 1
        else ""
    )
    label = (
        f"{series.title} over steps {number(first)} to {number(last)}: "
        f"smoothed from {labels[0][2]} to {labels[-1][2]}"
    )
    data = escape(json.dumps({"points": points, "labels": labels}, separators=(",", ":")))
    plot = (
        f'<div class="plot" role="slider" tabindex="0" aria-label="{escape(label)}" aria-valuemin="0" '
        f'aria-valuemax="{len(points) - 1}" aria-valuenow="{len(points) - 1}" '
        f'aria-valuetext="step {labels[-1][0]}: {labels[-1][1]}" data-chart="{data}">'
        f"{_frame(ticks)}"
        f'<svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">{lines}</svg>'
        f'<span class="cursor" hidden></span><span class="dot" hidden></span></div>'
    )
    axis = _x_axis(nice_steps(first, last, 3 if series.small else 5), first, last)
    readout = (
        f'<p class="readout" aria-hidden="true">step {labels[-1][0]} <b>{labels[-1][2]}</b>'
        f" <span>raw {labels[-1][1]}</span></p>"
    )
    size = " small" if series.small else ""
    return (
        f'<figure class="chart{size} {series.tone}"><figcaption>{escape(series.title)}</figcaption>'
        f"{readout}{plot}{axis}</figure>"
    )


def histogram(values: Sequence[float], *, title: str, width: float, unit: str) -> str:
    """Counts of values in bins of ``width`` that start at multiples of it."""
    first = int(min(values) / width + 1e-9)
    last = max(first, int(min(max(values), 1 - 1e-9) / width + 1e-9))
    counts = [0] * (last - first + 1)
    for value in values:
        counts[min(int(value / width + 1e-9), last) - first] += 1
    ticks = nice_ticks(0, max(counts), 3)
    left, right = first * width, (last + 1) * width
    bars = []
    for index, count in enumerate(counts):
        x, wide = 100 * index / len(counts), 100 / len(counts)
        tall = _share(count, ticks[0], ticks[-1])
        start = left + index * width
        bars.append(
            f'<rect x="{x + 0.06 * wide:.2f}" y="{100 - tall:.2f}" width="{0.88 * wide:.2f}" '
            f'height="{tall:.2f}"><title>{start:.2f} to {start + width:.2f}: '
            f"{count:,} {escape(unit)}</title></rect>"
        )
    mode = counts.index(max(counts))
    label = (
        f"{title}: {len(values):,} {unit} from {min(values):.2f} to {max(values):.2f}, "
        f"most between {left + mode * width:.2f} and {left + (mode + 1) * width:.2f}"
    )
    axis = _x_axis(
        [tick for tick in nice_ticks(left, right, 5) if left - 1e-9 <= tick <= right + 1e-9], left, right
    )
    return (
        f'<figure class="chart pairs"><figcaption>{escape(title)}</figcaption>'
        f'<div class="plot still" role="img" aria-label="{escape(label)}">{_frame(ticks)}'
        f'<svg viewBox="0 0 100 100" preserveAspectRatio="none">{"".join(bars)}</svg></div>{axis}</figure>'
    )


def signed_bars(title: str, rows: Sequence[tuple[str, float]]) -> str:
    """Values with their names as bars from a common zero, to the right if positive and to the left if negative."""
    low = min(0.0, *(value for _, value in rows))
    high = max(0.0, *(value for _, value in rows))
    zero = _share(0.0, low, high)
    shown = []
    for name, value in rows:
        end = _share(value, low, high)
        at = placed(left=f"{min(zero, end):.2f}%", width=f"{abs(end - zero):.2f}%")
        shown.append(
            f'<tr><th scope="row">{escape(name)}</th><td><span class="axis" {placed(left=f"{zero:.2f}%")}></span>'
            f'<span class="length" {at}></span></td><td>{signed(value, 4)}</td></tr>'
        )
    return (
        f'<figure class="chart signal"><figcaption>{escape(title)}</figcaption>'
        f'<table class="signed"><tbody>{"".join(shown)}</tbody></table></figure>'
    )


def nice_steps(first: float, last: float, about: int) -> list[float]:
    """Round steps within [first, last]; only ``first`` if there are none."""
    inside = [tick for tick in nice_ticks(first, last, about) if first <= tick <= last]
    return inside or [first]


def _frame(ticks: Sequence[float]) -> str:
    return "".join(
        f'<span class="grid" {placed(bottom=f"{_share(tick, ticks[0], ticks[-1]):.2f}%")}>'
        f"<span>{number(tick)}</span></span>"
        for tick in ticks
    )


def _x_axis(ticks: Sequence[float], first: float, last: float) -> str:
    marks = "".join(
        f"<span {placed(left=f'{_share(tick, first, last):.2f}%')}>{number(tick)}</span>" for tick in ticks
    )
    return f'<div class="x-axis" aria-hidden="true">{marks}</div>'


def _share(value: float, low: float, high: float) -> float:
    return 50.0 if high <= low else 100.0 * (value - low) / (high - low)

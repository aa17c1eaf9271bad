"""A box plot as an HTML table with an SVG in each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pairuni.report.axes import signed
from pairuni.report.markup import escape, placed
from pairuni.report.statistics import nice_ticks

_REACH = 1.5
"""Whiskers end at the last value within so many heights of the box (Tukey 1977)."""
_GOLDEN = 0.618
"""Consecutive multiples of it, modulo 1, spread points evenly."""


def box_plot(title: str, rows: Mapping[str, Sequence[float]], marks: Mapping[str, float]) -> str:
    """One box for each row: quartiles, median, whiskers and every value; all rows share an axis.

    marks: a further value of some rows, drawn as a diamond.
    """
    values = [*(value for own in rows.values() for value in own), *marks.values(), 0.0]
    ticks = nice_ticks(min(values), max(values), 5)

    def at(value: float) -> float:
        return 100.0 * (value - ticks[0]) / (ticks[-1] - ticks[0])

    body = []
    for name, own in rows.items():
        mark = marks.get(name)
        diamond = "" if mark is None else f'<span class="diamond" {placed(left=f"{at(mark):.2f}%")}></span>'
        plot = (
            f'<svg viewBox="0 0 100 20" preserveAspectRatio="none">{_box([at(value) for value in own])}</svg>'
        )
        low, median, high = np.quantile(own, (0.25, 0.5, 0.75))
        said = f"median {signed(median, 4)}, quartiles {signed(low, 4)} and {signed(high, 4)}"
        said += "" if mark is None else f"; paper {signed(mark, 3)}"
        body.append(
            f'<tr><th scope="row">{escape(name)}</th><td role="img" aria-label="{said}">'
            f'<span class="axis" {placed(left=f"{at(0.0):.2f}%")}></span>{plot}{diamond}</td></tr>'
        )
    labels = "".join(f"<span {placed(left=f'{at(tick):.2f}%')}>{signed(tick, 3)}</span>" for tick in ticks)
    axis = (
        f'<tr class="scale-row" aria-hidden="true"><th></th><td><div class="x-axis">{labels}</div></td></tr>'
    )
    return (
        f'<figure class="chart signal"><figcaption>{escape(title)}</figcaption>'
        f'<table class="boxes"><tbody>{"".join(body)}{axis}</tbody></table></figure>'
    )


def _box(places: Sequence[float]) -> str:
    """Box, whiskers and points in a picture of 100 by 20; places: horizontal, from 0 to 100."""
    low, middle, high = (float(one) for one in np.quantile(places, (0.25, 0.5, 0.75)))
    reach = _REACH * (high - low)
    left = min(place for place in places if place >= low - reach)
    right = max(place for place in places if place <= high + reach)
    dots = "".join(
        f"M{place:.2f} {4 + 12 * (index * _GOLDEN % 1):.1f}h0" for index, place in enumerate(places)
    )
    return (
        f'<rect x="{low:.2f}" y="4" width="{high - low:.2f}" height="12"/>'
        f'<path class="whiskers-line" d="M{left:.2f} 10H{low:.2f}M{high:.2f} 10H{right:.2f}'
        f'M{left:.2f} 7V13M{right:.2f} 7V13"/>'
        f'<path class="points" d="{dots}"/><path class="median" d="M{middle:.2f} 3V17"/>'
    )

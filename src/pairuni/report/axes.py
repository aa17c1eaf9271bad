"""Axes of charts and the numbers on them. Lines stretch with the page and text does not: axes are HTML."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pairuni.report.markup import placed
from pairuni.report.statistics import nice_ticks

_EXPONENT = re.compile(r"(?:\.0)?e([+-])0*")


def number(value: float) -> str:
    """A number in at most three digits, from 1,000 in whole ones: 0.613, 12.4, 1,204, 1.2e-6. As in interaction.js."""
    if value < 0:
        return "−" + number(-value)
    if value == 0:
        return "0"
    if value >= 1e12:
        return f"{value:.3g}"
    if value >= 999.5:
        return f"{value:,.0f}"
    if value < 0.001:
        return _EXPONENT.sub(r"e\1", f"{value:.1e}")
    return f"{value:.3g}"


def signed(value: float, decimals: int) -> str:
    """A number with its sign, +0.4 or −0.4; without one if it rounds to zero."""
    text = f"{value:+.{decimals}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def share(value: float, low: float, high: float) -> float:
    """Where a value is between ``low`` and ``high``, in percent."""
    return 50.0 if high <= low else 100.0 * (value - low) / (high - low)


def nice_steps(first: float, last: float, about: int) -> list[float]:
    """Round steps within [first, last]; only ``first`` if there are none."""
    inside = [tick for tick in nice_ticks(first, last, about) if first <= tick <= last]
    return inside or [first]


def frame(ticks: Sequence[float]) -> str:
    """Horizontal lines of a plot, with their numbers at the left."""
    return "".join(
        f'<span class="grid" {placed(bottom=f"{share(tick, ticks[0], ticks[-1]):.2f}%")}>'
        f"<span>{number(tick)}</span></span>"
        for tick in ticks
    )


def x_axis(ticks: Sequence[float], first: float, last: float) -> str:
    """Numbers below a plot that spans [first, last]."""
    marks = "".join(
        f"<span {placed(left=f'{share(tick, first, last):.2f}%')}>{number(tick)}</span>" for tick in ticks
    )
    return f'<div class="x-axis" aria-hidden="true">{marks}</div>'

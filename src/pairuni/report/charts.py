"""Charts of values without steps: a histogram, and bars from a common zero."""

from __future__ import annotations

from collections.abc import Sequence

from pairuni.report.axes import frame, share, signed, x_axis
from pairuni.report.markup import escape, placed
from pairuni.report.statistics import nice_ticks


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
        tall = share(count, ticks[0], ticks[-1])
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
    axis = x_axis(
        [tick for tick in nice_ticks(left, right, 5) if left - 1e-9 <= tick <= right + 1e-9], left, right
    )
    return (
        f'<figure class="chart pairs"><figcaption>{escape(title)}</figcaption>'
        f'<div class="plot still" role="img" aria-label="{escape(label)}">{frame(ticks)}'
        f'<svg viewBox="0 0 100 100" preserveAspectRatio="none">{"".join(bars)}</svg></div>{axis}</figure>'
    )


def signed_bars(title: str, rows: Sequence[tuple[str, float]]) -> str:
    """Values with their names as bars from a common zero, to the right if positive and to the left if negative."""
    low = min(0.0, *(value for _, value in rows))
    high = max(0.0, *(value for _, value in rows))
    zero = share(0.0, low, high)
    shown = []
    for name, value in rows:
        end = share(value, low, high)
        at = placed(left=f"{min(zero, end):.2f}%", width=f"{abs(end - zero):.2f}%")
        shown.append(
            f'<tr><th scope="row">{escape(name)}</th><td><span class="axis" {placed(left=f"{zero:.2f}%")}></span>'
            f'<span class="length" {at}></span></td><td>{signed(value, 4)}</td></tr>'
        )
    return (
        f'<figure class="chart signal"><figcaption>{escape(title)}</figcaption>'
        f'<table class="signed"><tbody>{"".join(shown)}</tbody></table></figure>'
    )

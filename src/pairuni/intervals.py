"""How sure a share of right items is."""

from __future__ import annotations

import math

Z95 = 1.959963984540054
"""The 97.5% quantile of the standard normal."""


def wilson_interval(score: float, count: int) -> tuple[float, float]:
    """95% interval of a proportion ``score`` in [0, 1] seen over ``count`` items (Wilson 1927)."""
    if count < 1:
        raise ValueError("an interval needs at least one item")
    spread = Z95**2 / count
    centre = (score + spread / 2) / (1 + spread)
    half = Z95 / (1 + spread) * math.sqrt(score * (1 - score) / count + spread / (4 * count))
    return max(0.0, centre - half), min(1.0, centre + half)

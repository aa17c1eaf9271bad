"""Statistics and scales of the report's charts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pairuni.intervals import Z95

Item = TypeVar("Item")
Array = NDArray[np.float64]

_LEAST = 1e-9
"""Range of an axis, relative to its values, below which ticks cannot be distinguished."""


def paired_difference(before: Sequence[bool], after: Sequence[bool]) -> tuple[float, float, float]:
    """Change of the share of correct items with its 95% Wald interval for paired items: (change, low, high)."""
    if len(before) != len(after) or not before:
        raise ValueError("a paired difference needs the same items, at least one, before and after")
    count = len(before)
    gained = sum(a and not b for b, a in zip(before, after, strict=True))
    lost = sum(b and not a for b, a in zip(before, after, strict=True))
    change = (gained - lost) / count
    half = Z95 * math.sqrt(max(0.0, gained + lost - (gained - lost) ** 2 / count)) / count
    return change, change - half, change + half


def sign_test(higher: int, lower: int) -> float:
    """Two-sided exact p of a sign test: whether items that changed rose as often as they fell.

    Of items that are right or wrong it is McNemar's exact test.
    """
    changed = higher + lower
    ways = tail = 1
    for one in range(min(higher, lower)):
        ways = ways * (changed - one) // (one + 1)
        tail += ways
    return min(1.0, 2 * tail / 2**changed)


def smoothed(values: Sequence[float], window: int) -> list[float]:
    """Moving local linear fit over ``window`` values (at least 2), truncated at the ends.

    Inside, it equals the moving average. At the ends it neither lags behind a trend, as an average over half a window
    would, nor follows the noise of the last value.
    """
    if not values:
        return []
    own, count, half = np.asarray(values, dtype=np.float64), len(values), window // 2
    at = np.arange(count)
    start, stop = np.maximum(0, at - half), np.minimum(count, at + half + 1)
    size, centre = stop - start, (start + stop - 1) / 2
    middle = own.mean()

    def sums(parts: Array) -> Array:
        ends = np.concatenate([[0.0], np.cumsum(parts)])
        return ends[stop] - ends[start]

    total = sums(own - middle)
    tilt = sums(at * (own - middle)) - centre * total
    width = size * (size**2 - 1) / 12  # the sum of the squared distances of the places from their centre
    slope = np.divide(tilt, width, out=np.zeros(count), where=width > 0)
    return [float(value) for value in middle + total / size + (at - centre) * slope]


def with_extremes(values: Sequence[float], most: int) -> list[int]:
    """Indices of at most ``most`` values (at least 4), in order, that draw the same line.

    The first and the last one, and the lowest and the highest of equal stretches between them.
    """
    if len(values) <= most:
        return list(range(len(values)))
    own = np.asarray(values, dtype=np.float64)
    kept = {0, len(values) - 1}
    for stretch in np.array_split(np.arange(1, len(values) - 1), most // 2 - 1):
        kept |= {int(stretch[own[stretch].argmin()]), int(stretch[own[stretch].argmax()])}
    return sorted(kept)


def evenly_spaced(items: Sequence[Item], most: int) -> list[Item]:
    """At most ``most`` items, evenly spaced in the sequence, the first and the last included."""
    if len(items) <= most:
        return list(items)
    return [items[round(index * (len(items) - 1) / (most - 1))] for index in range(most)]


def nice_ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers that cover [low, high], about ``about`` steps of 1, 2, 2.5 or 5 times a power of ten."""
    if high - low <= _LEAST * max(abs(low), abs(high), 1e-290):
        low, high = (0.0, 1.0) if abs(low) < 1e-290 else (low - abs(low) * 0.1, low + abs(low) * 0.1)
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]

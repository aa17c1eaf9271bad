"""Statistics and scales of the report's charts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

from pairuni.intervals import Z95

Item = TypeVar("Item")

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


def smoothed(values: Sequence[float], window: int) -> list[float]:
    """Moving local linear fit over ``window`` values (at least 2), truncated at the ends.

    Inside, it equals the moving average. At the ends it neither lags behind a trend, as an average over half a window
    would, nor follows the noise of the last value.
    """
    half = window // 2
    result = []
    for index in range(len(values)):
        start, stop = max(0, index - half), min(len(values), index + half + 1)
        part, centre = values[start:stop], (start + stop - 1) / 2
        mean = sum(part) / len(part)
        width = sum((at - centre) ** 2 for at in range(start, stop))
        tilt = sum((at - centre) * value for at, value in zip(range(start, stop), part, strict=True))
        result.append(mean + (index - centre) * (tilt / width if width else 0.0))
    return result


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

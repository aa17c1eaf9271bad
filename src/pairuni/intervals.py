"""Confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Z95 = 1.959963984540054
"""The 97.5% quantile of the standard normal."""

Array = NDArray[np.float64]


def wilson_interval(score: float, count: int) -> tuple[float, float]:
    """95% interval of a proportion ``score`` in [0, 1] of ``count`` items (Wilson 1927)."""
    if count < 1:
        raise ValueError("an interval needs at least one item")
    z2 = Z95**2 / count
    centre = (score + z2 / 2) / (1 + z2)
    half = Z95 / (1 + z2) * math.sqrt(score * (1 - score) / count + z2 / (4 * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def median_interval(
    values: Sequence[float], *, resamples: int = 2000, seed: int = 0
) -> tuple[float, float] | None:
    """95% percentile interval of the median, by resampling the values with replacement; None as below."""
    own = np.asarray(values, dtype=np.float64)
    drawn = np.random.default_rng(seed).integers(len(own), size=(resamples, len(own)))
    low, high = np.quantile(np.median(own[drawn], axis=1), (0.025, 0.975))
    return (float(low), float(high)) if low < high else None


def bootstrap_interval(
    strata: Sequence[Sequence[float] | Sequence[Sequence[float]]],
    statistic: Callable[[list[Array]], Array],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float] | None:
    """95% percentile interval of a statistic of means (Efron and Tibshirani 1993, chapter 13).

    strata: the independent items of each part of the benchmark, one number or k numbers each; items are resampled with
    replacement within their part, so every part keeps its size. statistic: maps the means of the parts, arrays
    [resamples] or [resamples, k], to scores [resamples]; NaN scores are ignored. Returns None if resampling gives no
    interval: a part has one item, or all resamples have the same score, as when every item is correct.
    """
    arrays = [np.asarray(part, dtype=np.float64) for part in strata]
    if not arrays or any(len(part) == 0 for part in arrays):
        raise ValueError("an interval needs at least one item in every part")
    if any(len(part) == 1 for part in arrays):
        return None
    rng = np.random.default_rng(seed)
    means = [
        np.stack([part[rng.integers(len(part), size=len(part))].mean(axis=0) for _ in range(resamples)])
        for part in arrays
    ]
    low, high = np.nanquantile(statistic(means), (0.025, 0.975))
    return (float(low), float(high)) if low < high else None

"""Means of a row over seeds, and differences between rows paired by seed and item, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pairuni.records import Task
from pairuni.studies.results import Result

RESAMPLES = 2000
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and items. interval: 95%, None with a single seed; better: seeds in which it is above 0."""

    mean: float
    interval: tuple[float, float] | None
    seeds: int
    better: int

    @property
    def clear(self) -> bool:
        """Whether the interval excludes 0."""
        return self.interval is not None and not self.interval[0] <= 0.0 <= self.interval[1]


def score(runs: Sequence[Result], task: Task) -> Estimate:
    """Held-out score after training."""
    return estimate([_items(run, task, "after") for run in runs])


def gain(runs: Sequence[Result], task: Task) -> Estimate:
    """Held-out score after training minus that before, item by item."""
    return estimate([_items(run, task, "after") - _items(run, task, "before") for run in runs])


def difference(runs: Mapping[int, Result], others: Mapping[int, Result], task: Task) -> Estimate | None:
    """Score of ``runs`` minus that of ``others``, both by seed, item by item; None without a common seed.

    Raises ValueError if the runs of a seed were evaluated on different numbers of items.
    """
    seeds = sorted(runs.keys() & others.keys())
    if not seeds:
        return None
    pairs = [(_items(runs[seed], task, "after"), _items(others[seed], task, "after")) for seed in seeds]
    for seed, (mine, theirs) in zip(seeds, pairs, strict=True):
        if len(mine) != len(theirs):
            raise ValueError(
                f"runs of seed {seed} were evaluated on {len(mine)} and on {len(theirs)} {task} items"
            )
    return estimate([mine - theirs for mine, theirs in pairs])


def estimate(groups: Sequence[Array], *, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """Mean over seeds of the mean over each seed's items [I], with a 95% percentile bootstrap interval.

    Seeds are resampled with replacement, then the items within each (Davison and Hinkley 1997, section 3.8). Seeds have
    the same weight. With few seeds the interval is too narrow: the spread of S resampled seeds is that of S - 1 of S.
    The interval is widened around the mean by sqrt(S / (S - 1)) to correct this.
    """
    means = np.array([group.mean() for group in groups])
    count = len(groups)
    better = int((means > 0).sum())
    mean = float(means.mean())
    if count == 1:
        return Estimate(mean, None, 1, better)
    rng = np.random.default_rng(seed)
    resampled = np.stack([_resampled_means(group, resamples, rng) for group in groups], axis=1)
    chosen = rng.integers(count, size=(resamples, count))
    scores = np.take_along_axis(resampled, chosen, axis=1).mean(axis=1)
    wider = (count / (count - 1)) ** 0.5
    low, high = np.quantile(scores, (0.025, 0.975))
    return Estimate(mean, (mean + wider * (low - mean), mean + wider * (high - mean)), count, better)


def _resampled_means(items: Array, resamples: int, rng: np.random.Generator) -> Array:
    """Means [resamples] of samples with replacement, as large as ``items`` [I].

    How often each distinct value is drawn is multinomial; scores have few distinct values.
    """
    values, counts = np.unique(items, return_counts=True)
    drawn = rng.multinomial(len(items), counts / len(items), size=resamples)
    means: Array = drawn @ values / len(items)
    return means


def _items(run: Result, task: Task, when: str) -> Array:
    return np.array(getattr(run, when).task(task).item_scores, dtype=np.float64)

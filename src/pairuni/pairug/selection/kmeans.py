"""k-means on torch, CPU or GPU: greedy k-means++ seeding in rounds, then Lloyd iterations that skip idle centres."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pairuni.devices import resolve_device

_SCORES = 1 << 25
"""Maximum number of distances in memory."""
_COLUMNS = 8192
_PRINCIPAL = 128
"""Features wider than twice this are projected to this many dimensions for seeding and the first iterations."""
_SAMPLE = 16_384
"""Number of rows that principal directions are computed from."""
_TRIALS = 6
_ROUND = 512
_APART = 0.9
"""Seeds of a round must keep at least this share of their squared distance to the earlier seeds of the round."""


@dataclass(frozen=True)
class Clusters:
    """centres: [K, D]. labels: [N], the cluster of each row. inertia: sum of squared distances to the centres."""

    centres: NDArray[np.float32]
    labels: NDArray[np.int64]
    inertia: float


def fit_kmeans(
    features: NDArray[np.float32], clusters: int, seed: int, *, device: str = "auto", iterations: int = 25
) -> Clusters:
    """Lloyd's algorithm from k-means++ seeds, with at most ``iterations`` in all dimensions.

    features: [N, D], L2-normalised on the grid of ``selection.features``: float64 sums of them are exact, so the
    centres do not depend on the order of summation. Wide features are first clustered in their leading principal
    directions, which finds nearly all of the assignment at a fraction of the cost.
    device: "auto" is a GPU if there is one. Memory besides the features: N * 128 floats and 2^25 distances.
    """
    rows, where = torch.from_numpy(np.ascontiguousarray(features)), resolve_device(device)
    rng = np.random.default_rng(seed)
    if rows.shape[1] > 2 * _PRINCIPAL:
        coarse = _Lloyd(_principal(rows, rng, where), clusters, where)
        coarse.seed(rng)
        coarse.run(iterations, tolerance=1e-3)
        fine = _Lloyd(rows, clusters, where)
        fine.start(coarse.labels)
    else:
        fine = _Lloyd(rows, clusters, where)
        fine.seed(rng)
    fine.run(iterations, tolerance=1e-3)
    return Clusters(fine.centres.cpu().numpy(), fine.labels.numpy(), float(fine.distances.sum()))


def seed_rows(features: NDArray[np.float32], clusters: int, seed: int, *, device: str = "auto") -> list[int]:
    """Rows of k-means++ seeds; fewer than ``clusters`` if fewer rows are distinct."""
    rows = torch.from_numpy(np.ascontiguousarray(features))
    return _Lloyd(rows, clusters, resolve_device(device)).seed(np.random.default_rng(seed))


class _Lloyd:
    """State of one k-means over rows [N, D]: labels and squared distances on the CPU, centres on ``device``."""

    def __init__(self, rows: Tensor, clusters: int, device: torch.device) -> None:
        self.rows, self.clusters, self.device = rows, clusters, device
        self.norms = _squared_lengths(rows)
        self.labels = torch.zeros(len(rows), dtype=torch.int64)
        self.distances = self.norms.new_full((len(rows),), torch.inf)
        self.centres = torch.zeros(clusters, rows.shape[1], device=device)
        self._sums = torch.zeros(clusters, rows.shape[1], dtype=torch.float64, device=device)
        self._counts = torch.zeros(clusters, dtype=torch.int64)

    def seed(self, rng: np.random.Generator) -> list[int]:
        """Greedy k-means++ (Arthur and Vassilvitskii 2007), in rounds of a tenth of the centres so far.

        Each round samples _TRIALS rows per centre by squared distance, measures how much each would lower the
        inertia, and keeps the best ones that are not close to a row already kept. Returns the rows.
        """
        chosen = [int(rng.integers(len(self.rows)))]
        self._add_seeds(chosen, 0)
        while len(chosen) < self.clusters:
            weights = np.cumsum(self.distances.double().numpy())
            if weights[-1] <= 0:
                break
            wanted = min(self.clusters - len(chosen), 1 + len(chosen) // 10, _ROUND)
            sampled = np.searchsorted(weights, rng.random(_TRIALS * wanted) * weights[-1], side="right")
            kept = self._best(np.unique(np.minimum(sampled, len(self.rows) - 1)), wanted)
            self._add_seeds(kept, len(chosen))
            chosen += kept
        self.start(self.labels)
        return chosen

    def _best(self, sampled: NDArray[np.int64], wanted: int) -> list[int]:
        """The rows among ``sampled`` that lower the inertia most as further centres and are apart from each other."""
        numbers = torch.from_numpy(sampled)
        points = self.rows[numbers].to(self.device)
        lengths = self.norms[numbers].to(self.device)
        gains = torch.zeros(len(sampled), dtype=torch.float64, device=self.device)
        for part in _parts(torch.arange(len(self.rows)), len(sampled)):
            room = (self.distances[part] - self.norms[part]).to(self.device)
            scores = torch.addmm(lengths, self.rows[part].to(self.device), points.T, alpha=-2.0)
            gains += (room[:, None] - scores).clamp_(min=0).sum(dim=0, dtype=torch.float64)
        apart = torch.cdist(points.double(), points.double()).square().cpu().numpy()
        alone = self.distances[numbers].double().numpy()
        left = alone.copy()
        kept: list[int] = []
        for place in torch.argsort(gains, descending=True, stable=True).tolist():
            if alone[place] > 0 and left[place] >= _APART * alone[place]:
                kept.append(int(sampled[place]))
                np.minimum(left, apart[place], out=left)
                if len(kept) == wanted:
                    break
        return kept

    def _add_seeds(self, seeds: list[int], first: int) -> None:
        """Make the seeds the centres from number ``first`` on; rows move to them where they are nearer."""
        columns = torch.arange(first, first + len(seeds))
        self.centres[columns.to(self.device)] = self.rows[seeds].to(self.device)
        self._compare(torch.arange(len(self.rows)), columns, keep=True)
        seeds_at = torch.tensor(seeds, dtype=torch.int64)
        self.distances[seeds_at] = 0.0
        self.labels[seeds_at] = columns

    def start(self, labels: Tensor) -> None:
        """Set each centre to the mean of its rows; an empty cluster gets one of the farthest rows."""
        self.labels = labels.clone()
        self._sums.zero_()
        self._counts.zero_()
        self._shift(torch.arange(len(self.rows)), None)
        self._fill_empty()
        self._update_centres()
        self._measure()

    def run(self, iterations: int, tolerance: float) -> None:
        """Iterate until the inertia falls by less than the share ``tolerance``, or nothing changes."""
        moved = torch.ones(self.clusters, dtype=torch.bool)
        for _ in range(iterations):
            before, labels = float(self.distances.sum()), self.labels.clone()
            stale = moved[labels]
            self._compare(torch.nonzero(stale)[:, 0], torch.arange(self.clusters), keep=False)
            # The own centre of the others did not move, so only a centre that moved can be nearer.
            self._compare(torch.nonzero(~stale)[:, 0], torch.nonzero(moved)[:, 0], keep=True)
            changed = torch.nonzero(self.labels != labels)[:, 0]
            if not len(changed):
                break
            self._shift(changed, labels)
            self._fill_empty()
            moved = self._update_centres()
            self._measure(moved)
            if before - float(self.distances.sum()) < tolerance * before:
                break

    def _compare(self, numbers: Tensor, columns: Tensor, *, keep: bool) -> None:
        """Assign the rows to the nearest of the centres ``columns``; with ``keep``, only if it is nearer than now."""
        if not len(numbers) or not len(columns):
            return
        centres = self.centres if len(columns) == self.clusters else self.centres[columns.to(self.device)]
        lengths = (centres * centres).sum(dim=1)
        for part in _parts(numbers, min(len(columns), _COLUMNS)):
            block = self.rows[part].to(self.device)
            best = torch.full((len(part),), torch.inf, device=self.device)
            at = torch.zeros(len(part), dtype=torch.int64, device=self.device)
            for first in range(0, len(columns), _COLUMNS):
                some = slice(first, first + _COLUMNS)
                scores = torch.addmm(lengths[some], block, centres[some].T, alpha=-2.0)
                least, where = scores.min(dim=1)
                nearer = least < best
                best = torch.where(nearer, least, best)
                at = torch.where(nearer, where + first, at)
            found = (best.cpu() + self.norms[part]).clamp_(min=0)
            labels = columns[at.cpu()]
            if keep:
                nearer = found < self.distances[part]
                found = torch.where(nearer, found, self.distances[part])
                labels = torch.where(nearer, labels, self.labels[part])
            self.distances[part] = found
            self.labels[part] = labels

    def _shift(self, numbers: Tensor, labels_before: Tensor | None) -> None:
        """Add the rows to the sums of their labels and subtract them from ``labels_before``; exact on the grid."""
        for part in _parts(numbers, self.rows.shape[1]):
            block = self.rows[part].to(self.device).double()
            self._sums.index_add_(0, self.labels[part].to(self.device), block)
            if labels_before is not None:
                self._sums.index_add_(0, labels_before[part].to(self.device), block, alpha=-1)
        self._counts += torch.bincount(self.labels[numbers], minlength=self.clusters)
        if labels_before is not None:
            self._counts -= torch.bincount(labels_before[numbers], minlength=self.clusters)

    def _fill_empty(self) -> None:
        empty = torch.nonzero(self._counts == 0)[:, 0]
        if not len(empty):
            return
        crowded = (self._counts[self.labels] > 1) & self.distances.isfinite() & (self.distances > 0)
        far = torch.argsort(torch.where(crowded, self.distances, -1.0), descending=True, stable=True)
        far = far[: min(len(empty), int(crowded.sum()))]
        before = self.labels.clone()
        self.labels[far] = empty[: len(far)]
        self.distances[far] = 0.0
        self._shift(far, before)

    def _update_centres(self) -> Tensor:
        """Update the centres; those of empty clusters stay. Returns which have moved, [K]."""
        counts = self._counts.to(self.device)
        means = (self._sums / counts.clamp(min=1)[:, None]).float()
        means = torch.where(counts[:, None] > 0, means, self.centres)
        moved = (means != self.centres).any(dim=1).cpu()
        self.centres = means
        return moved

    def _measure(self, moved: Tensor | None = None) -> None:
        """Update the distances of all rows, or of those whose centre moved, to their own centre."""
        numbers = torch.arange(len(self.rows)) if moved is None else torch.nonzero(moved[self.labels])[:, 0]
        for part in _parts(numbers, self.rows.shape[1]):
            own = self.centres[self.labels[part].to(self.device)]
            apart = self.rows[part].to(self.device) - own
            self.distances[part] = (apart * apart).sum(dim=1).cpu()


def _principal(rows: Tensor, rng: np.random.Generator, device: torch.device) -> Tensor:
    """Rows [N, D] in the leading principal directions of a sample of them, [N, 128], on the grid of features."""
    sample = rows[torch.from_numpy(np.sort(rng.permutation(len(rows))[:_SAMPLE]))].to(device)
    sample = sample - sample.mean(dim=0)
    _, directions = torch.linalg.eigh(sample.T @ sample)
    leading = directions[:, -_PRINCIPAL:]
    projected = torch.empty(len(rows), _PRINCIPAL)
    for part in _parts(torch.arange(len(rows)), rows.shape[1]):
        projected[part] = torch.round((rows[part].to(device) @ leading) * 2.0**26).cpu() * 2.0**-26
    return projected


def _squared_lengths(rows: Tensor) -> Tensor:
    norms = torch.empty(len(rows))
    for part in _parts(torch.arange(len(rows)), rows.shape[1]):
        norms[part] = rows[part].square().sum(dim=1)
    return norms


def _parts(numbers: Tensor, width: int) -> Iterator[Tensor]:
    """Row numbers in parts of at most _SCORES / width."""
    yield from numbers.split(max(1, _SCORES // max(1, width)))

"""Retrieval candidates: the most similar understanding samples of each generation sample, in float32."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pairuni.pairug.engine import Engine, OneProcess
from pairuni.pairug.record_file import Lazily
from pairuni.pairug.selection.features import on_grid

Rows = NDArray[np.int64]

EXACT_COMPARISONS = 2**26
"""Up to this many cosines, all are computed. Beyond it, only those between cells near each other."""
SAMPLE = 512
RECALL = 0.995
"""Enough cells are compared to find this share of a sample's true candidates; a second sample measures recall."""
WORTH_WORKERS = 2**34
"""Number of cosines above which the workers of an engine pay off; below it, starting them takes longer."""
_NONE = np.zeros(0, np.int64)
_ROWS, _COLUMNS = 1024, 8192
"""Rows of G and of U in one matrix product."""
_ROWS_SENT, _CELLS_SENT = 8 * _ROWS, 64
"""Rows, or cells, per block of an engine. A multiple of _ROWS: every engine computes the same products."""
_ROUNDING = 1e-5
"""An upper bound of the error of float32 inner products of unit vectors."""


@dataclass(frozen=True)
class Candidates:
    """Edges (generation row, understanding row, cosine in [0, 1]), none below the threshold.

    generation, understanding: [E]. similarity: [E], float32. full: [M], rows of G that may have more candidates
    than were kept. recall: share of the true candidates that were found, measured on a sample; 1 if all cosines
    were computed. comparisons: number of cosines computed.
    """

    generation: Rows
    understanding: Rows
    similarity: NDArray[np.float32]
    full: NDArray[np.bool_]
    recall: float
    comparisons: int


@dataclass(frozen=True)
class Cells:
    """Clusters as a search index: centres [K, D], and the cluster of each row of G [M] and of U [N]."""

    centres: NDArray[np.float32]
    generation: Rows
    understanding: Rows

    @classmethod
    def around(
        cls, anchors: NDArray[np.float32], generation: NDArray[np.float32], understanding: NDArray[np.float32]
    ) -> Cells:
        """Each row in the cell of its nearest anchor [K, D], for example a medoid. Centres are sums of rows."""
        sums = torch.from_numpy(1e-3 * anchors)
        found = []
        for side in (generation, understanding):
            rows = torch.from_numpy(np.ascontiguousarray(side))
            nearest = (
                _nearest(rows, torch.from_numpy(anchors), 1, "cpu", OneProcess())[1] if len(rows) else None
            )
            found.append(_NONE if nearest is None else nearest[:, 0])
            sums.index_add_(0, torch.from_numpy(found[-1]), rows)
        return cls(sums.numpy(), *found)

    def of(self, generation: Rows, understanding: Rows) -> Cells:
        """The cells of a subset of the rows."""
        return Cells(self.centres, self.generation[generation], self.understanding[understanding])


def exact_cosines(
    generation: NDArray[np.float32], understanding: NDArray[np.float32], g_rows: Rows, u_rows: Rows
) -> NDArray[np.float64]:
    """Cosines [E] of pairs of rows, exact on the grid and clamped to [0, 1]."""
    found = np.empty(len(g_rows))
    for start in range(0, len(found), _ROWS):
        part = slice(start, start + _ROWS)
        found[part] = np.einsum(
            "nd,nd->n", on_grid(generation[g_rows[part]]), on_grid(understanding[u_rows[part]])
        )
    return found.clip(0.0, 1.0)


def find_candidates(
    generation: NDArray[np.float32],
    understanding: NDArray[np.float32],
    threshold: float,
    most: int,
    *,
    cells: Cells | None = None,
    seed: int = 0,
    device: str = "cpu",
    engine: Engine | None = None,
) -> Candidates:
    """The ``most`` nearest rows of U [N, D] for each row of G [M, D], L2-normalised, with cosine >= threshold.

    Above EXACT_COMPARISONS cosines, ``cells`` limit the search: a row of G is compared with the rows of U in the
    cells whose centres are nearest to its own. The number of cells is chosen on a sample of G compared with all
    of U; ``recall`` is measured on a second sample. Memory besides the features: blocks of 1,024 x 8,192.
    engine: computes searches of more than WORTH_WORKERS cosines, with the same result.
    """
    g, u = (torch.from_numpy(np.ascontiguousarray(side)) for side in (generation, understanding))
    if not len(g) or not len(u):
        return Candidates(_NONE, _NONE, _NONE.astype(np.float32), np.zeros(len(g), bool), 1.0, 0)
    least, most = threshold - _ROUNDING, min(most, len(u))
    near = None
    if cells is not None and len(g) * len(u) > EXACT_COMPARISONS:
        near = _Near.choose(g, u, cells, least, most, seed, device)
    comparisons = near.comparisons() if near else len(g) * len(u)
    helpers = engine if engine is not None and comparisons > WORTH_WORKERS else OneProcess()
    if near is None:
        recall = 1.0
        similarity, column = _nearest(g, u, most, device, helpers)
    else:
        similarity, column = near.nearest(g, u, most, device, helpers)
        recall = near.recall(g, u, least, most, seed + 1, device)
    g_rows, places = np.nonzero(similarity >= least)
    u_rows, edges = column[g_rows, places], similarity[g_rows, places].clip(0.0, 1.0)
    border = np.flatnonzero(np.abs(edges - threshold) <= _ROUNDING)
    exact = exact_cosines(generation, understanding, g_rows[border], u_rows[border])
    keep = np.ones(len(edges), bool)
    keep[border[exact < threshold]] = False
    full = (similarity[:, -1] >= least) & (most < len(u))
    return Candidates(g_rows[keep], u_rows[keep], edges[keep], full, recall, comparisons)


def _nearest(
    g: Tensor, u: Tensor, most: int, device: str, engine: Engine
) -> tuple[NDArray[np.float32], Rows]:
    """Cosines (clamped below at 0) and columns [M, most], descending, by blocks of matrix products."""
    blocks = [rows.numpy() for rows in g.split(_ROWS_SENT)]
    by_number = dict(engine.run(partial(_AmongAll, u.numpy(), most, device), blocks))
    found = [by_number[number] for number in range(len(blocks))]
    return np.concatenate([values for values, _ in found]), np.concatenate([columns for _, columns in found])


class _AmongAll:
    """The nearest among all rows of U, for one block of G."""

    def __init__(self, understanding: NDArray[np.float32], most: int, device: str) -> None:
        self._understanding, self._most, self._device = _tensor(understanding), most, device

    def __call__(self, generation: NDArray[np.float32]) -> tuple[NDArray[np.float32], Rows]:
        values, columns = [], []
        for rows in _tensor(generation).split(_ROWS):
            best = torch.zeros(len(rows), 0, device=self._device)
            where = torch.zeros(len(rows), 0, dtype=torch.long, device=self._device)
            on_device = rows.to(self._device)
            for start in range(0, len(self._understanding), _COLUMNS):
                part = self._understanding[start : start + _COLUMNS].to(self._device)
                block = (on_device @ part.T).clamp_(min=0)
                found = block.topk(min(self._most, block.shape[1]), dim=1)
                both = torch.cat([best, found.values], 1)
                kept = both.topk(min(self._most, both.shape[1]), dim=1)
                where = torch.cat([where, found.indices + start], 1).gather(1, kept.indices)
                best = kept.values
            values.append(best.cpu())
            columns.append(where.cpu())
        return torch.cat(values).numpy(), torch.cat(columns).numpy()


@dataclass(frozen=True)
class _Near:
    """For each cell, its nearest cells that hold rows of U.

    targets: [K, P], cells to compare with, nearest first. members: rows of U in each cell. g_cells [M],
    u_cells [N]: the cell of each row. spent: cosines computed to build the index.
    """

    targets: Rows
    members: list[Tensor]
    g_cells: Rows
    u_cells: Rows
    spent: int

    @classmethod
    def choose(
        cls, g: Tensor, u: Tensor, cells: Cells, least: float, most: int, seed: int, device: str
    ) -> _Near | None:
        """The index that reaches RECALL; None if it saves less than half of all cosines."""
        g_cells, u_cells = cells.generation, cells.understanding
        anchors = torch.nn.functional.normalize(torch.from_numpy(cells.centres), dim=1)
        sizes = np.bincount(u_cells, minlength=len(anchors))
        held = np.flatnonzero(sizes)
        rows, columns = _true_edges(g, u, least, most, seed, device)
        place = np.full(len(anchors), -1)
        place[held] = np.arange(len(held))
        targets = anchors[torch.from_numpy(held)].to(device)
        ranks = _ranks(anchors, torch.from_numpy(g_cells[rows]), targets, place[u_cells[columns]])
        wanted = int(np.quantile(ranks, RECALL, method="higher")) + 1 if len(ranks) else 1
        spent = len(held) * len(anchors)
        if spent + len(g) * len(u) * wanted / len(held) > len(g) * len(u) / 2:
            return None
        near = [
            (part.to(device) @ targets.T).topk(wanted, dim=1).indices.cpu() for part in anchors.split(_ROWS)
        ]
        order = torch.from_numpy(np.argsort(u_cells, kind="stable"))
        return cls(held[torch.cat(near).numpy()], list(order.split(sizes.tolist())), g_cells, u_cells, spent)

    def comparisons(self) -> int:
        """Number of cosines that the search computes, including those of the index."""
        sizes = np.array([len(rows) for rows in self.members])
        return self.spent + int(sizes[self.targets].sum(1)[self.g_cells].sum())

    def nearest(
        self, g: Tensor, u: Tensor, most: int, device: str, engine: Engine
    ) -> tuple[NDArray[np.float32], Rows]:
        """Like ``_nearest``, with cosine -1 where the cells hold fewer than ``most`` rows."""
        values = np.full((len(g), most), -1.0, np.float32)
        columns = np.zeros((len(g), most), np.int64)
        order = np.argsort(self.g_cells, kind="stable")
        cells, starts = np.unique(self.g_cells[order], return_index=True)
        rows = np.split(order, starts[1:])

        def block(number: int) -> list[tuple[int, NDArray[np.float32]]]:
            part = slice(number * _CELLS_SENT, (number + 1) * _CELLS_SENT)
            return [(cell, g[mine].numpy()) for cell, mine in zip(cells[part], rows[part], strict=True)]

        members = [part.numpy() for part in self.members]
        make = partial(_AmongCells, u.numpy(), members, self.targets, most, device)
        for number, made in engine.run(make, Lazily(-(-len(cells) // _CELLS_SENT), block)):
            for mine, (cosines, others) in zip(rows[number * _CELLS_SENT :], made, strict=False):
                values[mine, : cosines.shape[1]] = cosines
                columns[mine, : others.shape[1]] = others
        return values, columns

    def recall(self, g: Tensor, u: Tensor, least: float, most: int, seed: int, device: str) -> float:
        """Share of a sample's true candidates that lie in the compared cells."""
        rows, columns = _true_edges(g, u, least, most, seed, device)
        if not len(rows):
            return 1.0
        found = (self.targets[self.g_cells[rows]] == self.u_cells[columns][:, None]).any(1)
        return float(found.mean())


class _AmongCells:
    """The nearest among the rows of U in the target cells, for a block of cells of G with their rows."""

    def __init__(
        self, understanding: NDArray[np.float32], members: list[Rows], targets: Rows, most: int, device: str
    ) -> None:
        self._understanding, self._members, self._targets = _tensor(understanding), members, targets
        self._most, self._device = most, device

    def __call__(
        self, block: Sequence[tuple[int, NDArray[np.float32]]]
    ) -> list[tuple[NDArray[np.float32], Rows]]:
        return [self._one(cell, generation) for cell, generation in block]

    def _one(self, cell: int, generation: NDArray[np.float32]) -> tuple[NDArray[np.float32], Rows]:
        others = np.concatenate([self._members[target] for target in self._targets[cell]])
        near = self._understanding[torch.from_numpy(others)].to(self._device)
        cosines = (_tensor(generation).to(self._device) @ near.T).clamp_(min=0)
        found = cosines.topk(min(self._most, len(others)), dim=1)
        return found.values.cpu().numpy(), others[found.indices.cpu().numpy()]


def _tensor(rows: NDArray[np.float32]) -> Tensor:
    """A tensor on the same memory. A worker's arrays are read-only, which torch would warn about."""
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        return torch.from_numpy(rows)


def _true_edges(g: Tensor, u: Tensor, least: float, most: int, seed: int, device: str) -> tuple[Rows, Rows]:
    sample = np.random.default_rng(seed).permutation(len(g))[:SAMPLE]
    similarity, column = _nearest(g[torch.from_numpy(sample)], u, most, device, OneProcess())
    rows, places = np.nonzero(similarity >= least)
    return sample[rows], column[rows, places]


def _ranks(anchors: Tensor, own: Tensor, targets: Tensor, places: Rows) -> Rows:
    """For each row, how many targets are nearer to its own anchor than its given target."""
    found = []
    for cells, wanted in zip(own.split(_ROWS), torch.from_numpy(places).split(_ROWS), strict=True):
        cosines = anchors[cells].to(targets.device) @ targets.T
        reached = cosines.gather(1, wanted[:, None].to(targets.device))
        found.append((cosines > reached).sum(1).cpu())
    return torch.cat(found).numpy() if found else np.zeros(0, np.int64)

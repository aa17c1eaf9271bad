"""Matchings of G' with U': sequential as in Algorithm 1, greedy (best pairs first), or optimal (largest total)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pairuni.config import Matching
from pairuni.pairug.selection.features import on_grid
from pairuni.pairug.selection.graph_matching import match_greedy, match_optimal

if TYPE_CHECKING:
    from pairuni.pairug.engine import Engine
    from pairuni.pairug.selection.candidates import Candidates, Cells

Rows = NDArray[np.int64]

_BLOCK = 512
_COLUMNS = 8192
_EDGES = 2**25
"""Upper bound of the candidates held in memory when a search is widened."""


class Match(NamedTuple):
    """Row of the generation sample, row of the understanding sample, their cosine in [0, 1]."""

    generation: int
    understanding: int
    similarity: float


class Search(NamedTuple):
    """One search for candidates: the share of all cosines that it computed, and its recall on a sample."""

    compared: float = 1.0
    recall: float = 1.0


@dataclass(frozen=True)
class Retrieval:
    """matches: in the order of G. searches: those for candidates, in order; none for the sequential matching."""

    matches: list[Match]
    searches: list[Search] = field(default_factory=list)


def match_sequential(
    generation: NDArray[np.float32],
    understanding: NDArray[np.float32],
    threshold: float,
    max_matches: int,
    generation_images: Sequence[str] | None = None,
    understanding_images: Sequence[str] | None = None,
) -> list[Match]:
    """The paper's loop: in the order of G', each x takes its top-n nearest rows left in U' with cosine >= delta.

    generation: [M, D], understanding: [N, D], both L2-normalised. threshold: delta; max_matches: n.
    Cosines are clamped to [0, 1]; the lower row of U' wins a tie. An x without a row that is near enough stays
    unpaired. Each image is used once: when a row is taken, all rows with the same image name leave both sets.
    Without names every row is a separate image. Time: M * N * D multiplications.
    """
    if not len(generation) or not len(understanding):
        return []
    g_images = _image_names(generation_images, "g", len(generation))
    u_images = _image_names(understanding_images, "u", len(understanding))
    rows_of: dict[str, list[int]] = {}
    for row, name in enumerate(u_images):
        rows_of.setdefault(name, []).append(row)
    taken = np.zeros(len(understanding), dtype=bool)
    used: set[str] = set()
    matches: list[Match] = []
    for start in range(0, len(generation), _BLOCK):
        block = _cosines(generation[start : start + _BLOCK], understanding)
        for x, row in enumerate(block, start=start):
            if g_images[x] in used:
                continue
            for _ in range(max_matches):
                row[taken] = -1.0
                best = int(row.argmax())
                if row[best] < threshold:
                    break
                matches.append(Match(x, best, float(row[best])))
                taken[rows_of[u_images[best]]] = True
                used |= {u_images[best], g_images[x]}
            if g_images[x] in used:
                taken[rows_of.get(g_images[x], [])] = True
    return matches


def match(
    generation: NDArray[np.float32],
    understanding: NDArray[np.float32],
    threshold: float,
    max_matches: int,
    generation_images: Sequence[str] | None = None,
    understanding_images: Sequence[str] | None = None,
    *,
    how: Matching,
    candidates: int,
    cells: Cells | None = None,
    seed: int = 0,
    engine: Engine | None = None,
) -> Retrieval:
    """Match G with U by the matching ``how``; the other arguments are those of ``match_sequential``.

    greedy and optimal consider the ``candidates`` nearest rows of U for each row of G, in float32, on a GPU if there
    is one, and repeat on the unmatched rows that may have further candidates. So greedy leaves no two rows unmatched
    that could be a pair (among the candidates found); optimal is optimal per round. Similarities are exact.
    cells, seed, engine: see ``find_candidates``; for sets too large to compute all cosines.
    """
    if how == "sequential":
        names = generation_images, understanding_images
        return Retrieval(match_sequential(generation, understanding, threshold, max_matches, *names))
    from pairuni.devices import resolve_device
    from pairuni.pairug.selection.candidates import find_candidates

    device = str(resolve_device("auto"))

    def search(g_rows: Rows, u_rows: Rows, most: int) -> Candidates:
        return find_candidates(
            _selected(generation, g_rows),
            _selected(understanding, u_rows),
            threshold,
            most,
            cells=cells.of(g_rows, u_rows) if cells is not None else None,
            seed=seed,
            device=device,
            engine=engine,
        )

    g_images, u_images = _numbered(
        _image_names(generation_images, "g", len(generation)),
        _image_names(understanding_images, "u", len(understanding)),
    )
    solve = partial(match_greedy if how == "greedy" else match_optimal, max_matches=max_matches)
    g_taken, u_taken, searches = _in_rounds(search, solve, g_images, u_images, max(candidates, max_matches))
    return Retrieval(_exact_matches(generation, understanding, g_taken, u_taken), searches)


def _in_rounds(
    search: Callable[[Rows, Rows, int], Candidates],
    solve: Callable[..., Rows],
    g_images: Rows,
    u_images: Rows,
    most: int,
) -> tuple[Rows, Rows, list[Search]]:
    """Matched rows of G and U: search and solve, then again, wider, for the rows left that may have more candidates."""
    g_left, u_left = np.arange(len(g_images)), np.arange(len(u_images))
    g_taken, u_taken = np.zeros(0, np.int64), np.zeros(0, np.int64)
    searches: list[Search] = []
    while len(g_left) and len(u_left):
        found = search(g_left, u_left, most)
        searches.append(Search(found.comparisons / (len(g_left) * len(u_left)), found.recall))
        edges = solve(found, g_images=g_images[g_left], u_images=u_images[u_left])
        g_taken = np.concatenate([g_taken, g_left[found.generation[edges]]])
        u_taken = np.concatenate([u_taken, u_left[found.understanding[edges]]])
        used = np.union1d(g_images[g_taken], u_images[u_taken])
        g_left = g_left[found.full & ~np.isin(g_images[g_left], used)]
        u_left = u_left[~np.isin(u_images[u_left], used)]
        wider = max(most, min(2 * most, _EDGES // max(1, len(g_left))))
        if not len(edges) and wider == most:
            break  # all candidates round to the threshold but lie below it, and memory has no room for more
        most = wider
    return g_taken, u_taken, searches


def _exact_matches(
    generation: NDArray[np.float32], understanding: NDArray[np.float32], g_rows: Rows, u_rows: Rows
) -> list[Match]:
    """Pairs of rows in the order of G, with exact similarities."""
    from pairuni.pairug.selection.candidates import exact_cosines

    order = np.lexsort((u_rows, g_rows))
    g_rows, u_rows = g_rows[order], u_rows[order]
    similarity = exact_cosines(generation, understanding, g_rows, u_rows)
    return list(map(Match, g_rows.tolist(), u_rows.tolist(), similarity.tolist()))


def _image_names(names: Sequence[str] | None, prefix: str, count: int) -> Sequence[str]:
    """``names``, or a separate name for each row."""
    return names or [f"{prefix}{row}" for row in range(count)]


def _selected(features: NDArray[np.float32], rows: Rows) -> NDArray[np.float32]:
    """These rows; not a copy if they are all."""
    return features if len(rows) == len(features) else features[rows]


def _cosines(generation: NDArray[np.float32], understanding: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosines [M, N], exact on the grid and clamped to [0, 1]; _COLUMNS rows of U in float64 at a time."""
    rows = on_grid(generation)
    block = np.empty((len(rows), len(understanding)))
    for start in range(0, len(understanding), _COLUMNS):
        part = slice(start, start + _COLUMNS)
        block[:, part] = rows @ on_grid(understanding[part]).T
    return block.clip(0.0, 1.0, out=block)


def _numbered(g_names: Sequence[str], u_names: Sequence[str]) -> tuple[Rows, Rows]:
    """One number per image, over both sets."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys([*g_names, *u_names]))}
    return np.array([numbers[name] for name in g_names]), np.array([numbers[name] for name in u_names])

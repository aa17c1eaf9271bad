"""Matchings on a graph of candidates: greedy, best pairs first; or optimal, the largest total similarity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pairuni.pairug.selection.candidates import Candidates

Edges = NDArray[np.int64]


def match_greedy(candidates: Candidates, max_matches: int, g_images: Edges, u_images: Edges) -> Edges:
    """Numbers of the edges taken, best first; ties go to the lower row of G, then of U.

    g_images: [M], u_images: [N], one number per image, over both sets. Each image is used once, by one row; a row of
    G takes at most ``max_matches``. The total similarity is at least half the optimum on these candidates.
    Each pass takes every edge that is the best at both its images, so few passes are needed.
    """
    order = np.lexsort((candidates.understanding, candidates.generation, -candidates.similarity))
    rows = candidates.generation[order]
    g, u = g_images[rows], u_images[candidates.understanding[order]]
    images = int(max(g_images.max(initial=-1), u_images.max(initial=-1))) + 1
    used = np.zeros(images, bool)
    owner = np.full(images, -1)
    count = np.zeros(len(g_images), np.int64)
    taken = []
    while len(order):
        places = np.arange(len(order))
        first = np.full(images, len(order))
        first[u[::-1]] = places[::-1]  # for equal indices, numpy keeps the last value
        first_g = np.full(images, len(order))
        first_g[g[::-1]] = places[::-1]
        np.minimum(first, first_g, out=first)
        best = np.flatnonzero((first[g] == places) & (first[u] == places))
        taken.append(order[best])
        used[g[best]] = used[u[best]] = True
        owner[g[best]] = rows[best]
        count[rows[best]] += 1
        left = (count[rows] < max_matches) & ~used[u] & ((owner[g] == rows) | ~used[g])
        order, rows, g, u = order[left], rows[left], g[left], u[left]
    return np.concatenate(taken) if taken else np.zeros(0, np.int64)


def match_optimal(candidates: Candidates, max_matches: int, g_images: Edges, u_images: Edges) -> Edges:
    """Numbers of the edges with the largest total similarity; arguments as in ``match_greedy``.

    Rows of one image have equal features, so the first one represents it. An image in both sets takes itself: that
    is worth 1, as much as any pair it could be in. The rest is an assignment problem.
    """
    edges = np.arange(len(candidates.generation))
    g, u = g_images[candidates.generation], u_images[candidates.understanding]
    _, first_g = np.unique(g_images, return_index=True)
    _, first_u = np.unique(u_images, return_index=True)
    standing = np.isin(candidates.generation, first_g) & np.isin(candidates.understanding, first_u)
    own = edges[standing & (g == u)]
    rest = edges[standing & (g != u) & ~np.isin(u, g[own])]
    if max_matches == 1:
        rest = rest[~np.isin(g[rest], g[own])]
    # an image in both sets that has no edge to itself is used on the side of G only
    rest = rest[~np.isin(u[rest], np.intersect1d(g_images, u_images))]
    if not len(rest):
        return own
    g_names, row = np.unique(g[rest], return_inverse=True)
    _, column = np.unique(u[rest], return_inverse=True)
    free = max_matches - np.isin(g_names, g[own]).astype(np.int64)
    similarity = candidates.similarity[rest].astype(np.float64)
    return np.concatenate([own, rest[_largest_assignment(row, column, similarity, free)]])


def _largest_assignment(
    row: Edges, column: Edges, similarity: NDArray[np.float64], free: NDArray[np.int64]
) -> Edges:
    """Numbers of the edges with the largest total, each column in one and each row r in at most ``free[r]`` of them.

    row, column, similarity: [E]. free: [rows]. SciPy's sparse Jonker-Volgenant algorithm matches every row, so row r
    stands free[r] times, each time with a partner of weight 0 for the case that it stays unmatched.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    first = np.cumsum(free) - free  # the first copy of each row
    source = np.repeat(np.arange(len(row)), free[row])
    copy = (
        first[row[source]] + np.arange(len(source)) - np.repeat(np.cumsum(free[row]) - free[row], free[row])
    )
    copies, columns = int(free.sum()), int(column.max()) + 1
    alone = np.arange(copies)
    weight = 1.0 + similarity[source]  # a weight of 0 would mean no edge
    places = np.concatenate([copy, alone]), np.concatenate([column[source], columns + alone])
    graph = coo_matrix(
        (np.concatenate([weight, np.ones(copies)]), places), (copies, columns + copies)
    ).tocsr()
    matched, partner = min_weight_full_bipartite_matching(graph, maximize=True)
    real = partner < columns
    key = copy * columns + column[source]
    by_key = np.argsort(key)
    at = np.searchsorted(key[by_key], matched[real].astype(np.int64) * columns + partner[real])
    return source[by_key[at]]

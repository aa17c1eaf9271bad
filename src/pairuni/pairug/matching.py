"""Retrieved pairs: each generation sample takes its nearest understanding samples (Algorithm 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_BLOCK = 512


class Match(NamedTuple):
    """Row of the generation sample, row of the understanding sample, their cosine in [0, 1]."""

    generation: int
    understanding: int
    similarity: float


def similarities(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosines [M, N] of L2-normalised rows, clamped to [0, 1].

    Summed in float64 and rounded to six places, so that equal images tie whatever order they are summed in.
    """
    return (left.astype(np.float64) @ right.astype(np.float64).T).round(6).clip(0.0, 1.0)


def match_sequential(
    generation: NDArray[np.float32],
    understanding: NDArray[np.float32],
    threshold: float,
    neighbours: int,
    generation_images: Sequence[str] | None = None,
    understanding_images: Sequence[str] | None = None,
) -> list[Match]:
    """The paper's loop: in the order of G', each x takes its top-n nearest left in U' with cosine >= delta.

    generation: [M, D], understanding: [N, D], both L2-normalised. threshold: delta; neighbours: n. Where two
    are equally near the lower row wins. Each image is used once: rows that share an image name leave with the
    row that was taken, in both sets; without names every row is an image of its own.
    """
    g_images = _ids("g", generation_images, len(generation))
    u_images = _ids("u", understanding_images, len(understanding))
    rows_of: dict[str, list[int]] = {}
    for row, name in enumerate(u_images):
        rows_of.setdefault(name, []).append(row)
    taken = np.zeros(len(understanding), dtype=bool)
    used: set[str] = set()
    matches: list[Match] = []
    if not len(understanding):
        return matches
    for start in range(0, len(generation), _BLOCK):
        block = similarities(generation[start : start + _BLOCK], understanding)
        for offset, row in enumerate(block):
            x = start + offset
            if g_images[x] in used:
                continue
            found = _nearest_left(row, taken, threshold, neighbours, rows_of, u_images)
            matches += [Match(x, u, float(row[u])) for u in found]
            used.update(u_images[u] for u in found)
            if found:
                used.add(g_images[x])
                taken[rows_of.get(g_images[x], [])] = True
    return matches


def _nearest_left(
    row: NDArray[np.float64],
    taken: NDArray[np.bool_],
    threshold: float,
    neighbours: int,
    rows_of: dict[str, list[int]],
    u_images: Sequence[str],
) -> list[int]:
    """Up to ``neighbours`` best rows of U', which are marked as taken."""
    found: list[int] = []
    while len(found) < neighbours:
        best = int(np.where(taken, -1.0, row).argmax())
        if taken[best] or row[best] < threshold:
            break
        found.append(best)
        taken[rows_of[u_images[best]]] = True
    return found


def _ids(prefix: str, names: Sequence[str] | None, count: int) -> Sequence[str]:
    return [f"{prefix}{row}" for row in range(count)] if names is None else names

"""Retrieved pairs: each generation sample takes its nearest understanding samples (Algorithm 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pairuni.pairug.features import on_grid

_BLOCK = 256


class Match(NamedTuple):
    """Row of the generation sample, row of the understanding sample, their cosine in [0, 1]."""

    generation: int
    understanding: int
    similarity: float


def match_sequential(
    generation: NDArray[np.float32],
    understanding: NDArray[np.float32],
    threshold: float,
    neighbours: int,
    generation_images: Sequence[str] | None = None,
    understanding_images: Sequence[str] | None = None,
) -> list[Match]:
    """The paper's loop: in the order of G', each x takes its top-n nearest left in U' with cosine >= delta.

    generation: [M, D], understanding: [N, D], both L2-normalised. threshold: delta; neighbours: n.
    Cosines are clamped to [0, 1]; where two are equal the lower row of U' wins. An x with none near enough
    stays unpaired. Each image is used once: rows that share an image's name leave with the row that was
    taken, in both sets; without names every row is an image of its own. Time: M * N * D multiplications.
    """
    if not len(generation) or not len(understanding):
        return []
    g_images = generation_images or [f"g{row}" for row in range(len(generation))]
    u_images = understanding_images or [f"u{row}" for row in range(len(understanding))]
    rows_of: dict[str, list[int]] = {}
    for row, name in enumerate(u_images):
        rows_of.setdefault(name, []).append(row)
    taken = np.zeros(len(understanding), dtype=bool)
    used: set[str] = set()
    matches: list[Match] = []
    columns = on_grid(understanding).T
    for start in range(0, len(generation), _BLOCK):
        block = np.clip(on_grid(generation[start : start + _BLOCK]) @ columns, 0.0, 1.0)
        for x, row in enumerate(block, start=start):
            if g_images[x] in used:
                continue
            for _ in range(neighbours):
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

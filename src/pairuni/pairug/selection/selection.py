"""Algorithm 1's selection on completed, encoded data: medoids as self-pairs, then retrieval."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pairuni.config import Clustering, Matching
from pairuni.pairug.record_file import Lazily
from pairuni.pairug.scale.ray_engine import RayEngine
from pairuni.pairug.selection.candidates import Cells
from pairuni.pairug.selection.clustering import fit_clusters, medoids_of
from pairuni.pairug.selection.matching import Match, Searched, match
from pairuni.records import Annotation, Origin, Quadruple, UGPair


def select_pairs(
    quadruples: Sequence[Quadruple],
    features: NDArray[np.float32],
    *,
    clusters: int,
    threshold: float,
    max_matches: int,
    seed: int,
    matching: Matching = "sequential",
    candidates: int = 32,
    clustering: Clustering = "reference",
    engine: RayEngine | None = None,
    searched: Searched | None = None,
) -> Sequence[UGPair]:
    """S = D_aligned (medoids as self-pairs) and D_ret (retrieved pairs), in this order; a pair is made when read.

    quadruples: U, then G; equal image paths mean equal images. features: [N, D], L2-normalised, one row each.
    Each *image* is used once: quadruples that share the image of one that was taken are not used any more.
    clustering: see ``fit_clusters``. matching: how G' and U' are put together; candidates, engine, searched: see
    ``match``. The paper's are reference and sequential.
    An image that stands in U and in G, and is no medoid, is its own nearest: it makes a pair of similarity 1
    with the annotation of each corpus on its side, aligned by the record's rule.
    """
    names, origins = _names_and_origins(quadruples)
    chosen: list[Match] = []
    used: set[str] = set()
    fitted = fit_clusters(features, clusters, seed, clustering)
    for row in medoids_of(features, fitted):
        if names[row] in used:  # equal rows may fall to two clusters whose centres are equally near
            continue
        used.add(names[row])
        chosen.append(Match(row, row, 1.0))

    def remaining(origin: Origin) -> list[int]:
        return [row for row, name in enumerate(names) if origins[row] == origin and name not in used]

    g_rows, u_rows = remaining("generation"), remaining("understanding")
    matches = match(
        features[g_rows],
        features[u_rows],
        threshold,
        max_matches,
        [names[row] for row in g_rows],
        [names[row] for row in u_rows],
        how=matching,
        candidates=candidates,
        cells=Cells(fitted.centres, fitted.labels[g_rows], fitted.labels[u_rows]),
        seed=seed,
        engine=engine,
        searched=searched,
    )
    for found in matches:
        g, u = g_rows[found.generation], u_rows[found.understanding]
        chosen.append(Match(g, u, 1.0 if names[g] == names[u] else round(found.similarity, 6)))
    return Lazily(len(chosen), lambda number: _pair(quadruples, chosen[number]))


def _names_and_origins(quadruples: Sequence[Quadruple]) -> tuple[list[str], list[Origin]]:
    """Image path and corpus of each; equal ones are one string."""
    names: list[str] = []
    origins: list[Origin] = []
    for quadruple in quadruples:
        names.append(sys.intern(quadruple.image_path))
        origins.append("generation" if quadruple.origin == "generation" else "understanding")
    return names, origins


def _pair(quadruples: Sequence[Quadruple], match: Match) -> UGPair:
    generation, understanding = (_side(quadruples[row]) for row in match[:2])
    return UGPair(similarity=match.similarity, generate_ann=generation, understand_ann=understanding)


def _side(quadruple: Quadruple) -> Annotation:
    """With id and origin as further keys: which raw sample a side came from, and of which corpus."""
    return Annotation(**quadruple.model_dump())

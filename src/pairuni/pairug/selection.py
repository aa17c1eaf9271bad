"""Algorithm 1's selection on completed, encoded data: medoids as self-pairs, then retrieval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pairuni.config import Clustering, Matching
from pairuni.pairug.candidates import Cells
from pairuni.pairug.clustering import fit_clusters, medoids_of
from pairuni.pairug.matching import Searched, match
from pairuni.pairug.ray_engine import RayEngine
from pairuni.records import Annotation, Origin, Quadruple, UGPair


def select_pairs(
    quadruples: Sequence[Quadruple],
    features: NDArray[np.float32],
    *,
    clusters: int,
    threshold: float,
    neighbours: int,
    seed: int,
    matching: Matching = "sequential",
    candidates: int = 32,
    clustering: Clustering = "reference",
    engine: RayEngine | None = None,
    searched: Searched | None = None,
) -> list[UGPair]:
    """S = D_aligned (medoids as self-pairs) and D_ret (retrieved pairs), in this order.

    quadruples: U, then G; equal image paths mean equal images. features: [N, D], L2-normalised, one row each.
    Each *image* is used once: quadruples that share the image of one that was taken are not used any more.
    clustering: see ``fit_clusters``. matching: how G' and U' are put together; candidates, engine, searched: see
    ``match``. The paper's are reference and sequential.
    An image that stands in U and in G, and is no medoid, is its own nearest: it makes a pair of similarity 1
    with the annotation of each corpus on its side, aligned by the record's rule.
    """
    names = [quadruple.image_path for quadruple in quadruples]
    pairs: list[UGPair] = []
    used: set[str] = set()
    fitted = fit_clusters(features, clusters, seed, clustering)
    for row in medoids_of(features, fitted):
        if names[row] in used:  # equal rows may fall to two clusters whose centres are equally near
            continue
        used.add(names[row])
        side = _side(quadruples[row])
        pairs.append(UGPair(similarity=1.0, generate_ann=side, understand_ann=side))

    def remaining(origin: Origin) -> list[int]:
        return [row for row, q in enumerate(quadruples) if q.origin == origin and names[row] not in used]

    g_rows, u_rows = remaining("generation"), remaining("understanding")
    matches = match(
        features[g_rows],
        features[u_rows],
        threshold,
        neighbours,
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
        similarity = 1.0 if names[g] == names[u] else round(found.similarity, 6)
        pairs.append(
            UGPair(
                similarity=similarity,
                generate_ann=_side(quadruples[g]),
                understand_ann=_side(quadruples[u]),
            )
        )
    return pairs


def _side(quadruple: Quadruple) -> Annotation:
    """With id and origin as further keys: which raw sample a side came from, and of which corpus."""
    return Annotation(**quadruple.model_dump())

"""Algorithm 1 (arXiv:2510.25682) on completed, encoded data: D_aligned by selection, then D_ret by retrieval."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pairuni.config import Matching, Selection
from pairuni.pairug.engine import Engine
from pairuni.pairug.record_file import Lazily
from pairuni.pairug.selection.candidates import Cells
from pairuni.pairug.selection.clustering import medoids_of
from pairuni.pairug.selection.kmeans import Clusters
from pairuni.pairug.selection.matching import Match, Retrieval, match
from pairuni.records import Annotation, Origin, Quadruple, UGPair

SEVERAL = "\0"
"""Between the paths of several images; no path contains it."""


@dataclass(frozen=True)
class JointSet:
    """U and G together, one row per quadruple.

    names: [N], image paths; equal paths mean equal images. Those of several images are joined by ``SEVERAL``.
    origins: [N]. features: [N, D], L2-normalised.
    """

    names: list[str]
    origins: list[Origin]
    features: NDArray[np.float32]

    @property
    def of_one_image(self) -> NDArray[np.bool_]:
        """[N] the rows that can be both halves of a pair; the caption of several images generates nothing."""
        return np.array([SEVERAL not in name for name in self.names])

    @classmethod
    def of(cls, quadruples: Iterable[Quadruple], features: NDArray[np.float32]) -> JointSet:
        """The set of these quadruples and their features [N, D]."""
        names: list[str] = []
        origins: list[Origin] = []
        for quadruple in quadruples:  # equal strings are kept once
            names.append(sys.intern(SEVERAL.join(quadruple.image_paths)))
            origins.append("generation" if quadruple.origin == "generation" else "understanding")
        return cls(names, origins, features)

    def without(self, aligned: Iterable[Match]) -> tuple[list[int], list[int]]:
        """Rows of G' and U': what the aligned pairs leave of both corpora. Copies of their images leave too."""
        used = {self.names[pair.generation] for pair in aligned}
        left = [row for row, name in enumerate(self.names) if name not in used]
        g_rows = [row for row in left if self.origins[row] == "generation"]
        return g_rows, [row for row in left if self.origins[row] == "understanding"]

    def names_of(self, rows: Iterable[int]) -> list[str]:
        return [self.names[row] for row in rows]


def aligned_pairs(
    joint: JointSet, clusters: Clusters, selection: Selection = "medoids", seed: int = 0
) -> list[Match]:
    """D_aligned: the medoids of the clusters as self-pairs, each image once. Rows of several images are never aligned.

    selection: "random" takes as many rows of the joint set instead, each with a new image, uniformly by ``seed``: the
    paper's ablation of the medoids.
    """
    among = joint.of_one_image
    medoids = self_pairs(joint, medoids_of(joint.features, clusters, among))
    if selection == "medoids":
        return medoids
    order = np.random.default_rng(seed).permutation(len(joint.names))
    return sorted(self_pairs(joint, order[among[order]])[: len(medoids)])


def self_pairs(joint: JointSet, rows: Iterable[int]) -> list[Match]:
    """Each row paired with itself, except those whose image an earlier one has."""
    aligned: list[Match] = []
    used: set[str] = set()
    for row in rows:
        if joint.names[row] not in used:  # equal rows may belong to two clusters with equally near centres
            used.add(joint.names[row])
            aligned.append(Match(int(row), int(row), 1.0))
    return aligned


def retrieved_pairs(
    joint: JointSet,
    aligned: Sequence[Match],
    clusters: Clusters,
    *,
    threshold: float,
    max_matches: int,
    seed: int,
    matching: Matching = "sequential",
    candidates: int = 32,
    engine: Engine | None = None,
) -> Retrieval:
    """D_ret: the matches of G' with U', in rows of the joint set; see ``match``. The paper's matching is sequential.

    Each *image* is used once: when a sample is matched, all samples of its image leave both sets. An image in
    both corpora that is not in D_aligned is its own nearest neighbour: it makes a pair of similarity 1 with each
    corpus's annotation on its side.
    """
    g_rows, u_rows = joint.without(aligned)
    found = match(
        joint.features[g_rows],
        joint.features[u_rows],
        threshold,
        max_matches,
        joint.names_of(g_rows),
        joint.names_of(u_rows),
        how=matching,
        candidates=candidates,
        cells=Cells(clusters.centres, clusters.labels[g_rows], clusters.labels[u_rows]),
        seed=seed,
        engine=engine,
    )
    matches = []
    for place in found.matches:
        g, u = g_rows[place.generation], u_rows[place.understanding]
        same = joint.names[g] == joint.names[u]
        matches.append(Match(g, u, 1.0 if same else round(place.similarity, 6)))
    return Retrieval(matches, found.searches)


def as_pairs(quadruples: Sequence[Quadruple], matches: Sequence[Match]) -> Sequence[UGPair]:
    """The pairs of these matches, each made when it is read. id and origin stay with each side as further keys."""

    def side(row: int) -> Annotation:
        return Annotation(**quadruples[row].model_dump())

    def pair(number: int) -> UGPair:
        g, u, similarity = matches[number]
        return UGPair(similarity=similarity, generate_ann=side(g), understand_ann=side(u))

    return Lazily(len(matches), pair)

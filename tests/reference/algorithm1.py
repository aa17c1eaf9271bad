"""Algorithm 1 of arXiv:2510.25682 as written, loop by loop, to hold the fast build against.

Features must lie on the grid where float64 sums are exact, as ``l2_normalise`` leaves them: two equal cosines
are then equal here and wherever else they are computed, and ties can be compared.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans

Pair = tuple[int, int, float]
"""Row of the generation side, row of the understanding side, similarity."""

GRID = 2.0**-26


def algorithm1(
    features: NDArray[np.float32],
    origins: Sequence[str],
    images: Sequence[str],
    *,
    clusters: int,
    threshold: float,
    max_matches: int,
    seed: int,
    selection: str = "medoids",
    several: Sequence[bool] | None = None,
) -> list[Pair]:
    """features: [N, D] of U and G together. Aligned self-pairs first, then the retrieved ones.

    selection: "random" replaces the medoids by as many random samples. several: samples of several images, which can
    be retrieved but not aligned.
    """
    several = [False] * len(images) if several is None else several
    kmeans = MiniBatchKMeans(clusters, random_state=seed, batch_size=4096, n_init=1).fit(features)
    exact = features.astype(np.float64)

    medoids = []
    for cluster in range(clusters):
        medoid, largest = None, -np.inf
        centre = np.rint(kmeans.cluster_centers_[cluster].astype(np.float64) / GRID) * GRID
        for row in np.flatnonzero(kmeans.labels_ == cluster):
            closeness = float(exact[row] @ centre)
            if closeness > largest and not several[row]:
                medoid, largest = int(row), closeness
        if medoid is not None:
            medoids.append(medoid)
    aligned: list[Pair] = []
    used_images: set[str] = set()
    for medoid in sorted(medoids):
        if images[medoid] not in used_images:
            aligned.append((medoid, medoid, 1.0))
            used_images.add(images[medoid])

    if selection == "random":
        shuffled = np.random.default_rng(seed).permutation(len(images))
        count, aligned, used_images = len(aligned), [], set()
        for row in shuffled.tolist():
            if len(aligned) < count and images[row] not in used_images and not several[row]:
                aligned.append((row, row, 1.0))
                used_images.add(images[row])
        aligned.sort()

    rest = [row for row in range(len(images)) if images[row] not in used_images]
    rest_of_u = [row for row in rest if origins[row] == "understanding"]
    rest_of_g = [row for row in rest if origins[row] == "generation"]
    return aligned + retrieval(features, rest_of_u, rest_of_g, images, threshold, max_matches)


def retrieval(
    features: NDArray[np.float32],
    rest_of_u: Sequence[int],
    rest_of_g: Sequence[int],
    images: Sequence[str],
    threshold: float,
    max_matches: int,
) -> list[Pair]:
    """The greedy loop: each x in G' takes its nearest in U', cosine >= delta; the lower row wins a tie."""
    exact = features.astype(np.float64)
    left = list(rest_of_u)
    used_images: set[str] = set()
    retrieved: list[Pair] = []
    for x in rest_of_g:
        if images[x] in used_images:
            continue
        near = []
        for u, cosine in zip(left, (exact[left] @ exact[x]).tolist(), strict=True):
            similarity = min(1.0, max(0.0, cosine))
            if similarity >= threshold:
                near.append((-similarity, u))
        taken = 0
        for negative, u in sorted(near):
            if taken < max_matches and images[u] not in used_images:
                taken += 1
                used_images.add(images[u])
                retrieved.append((x, u, -negative))
        if taken:
            used_images.add(images[x])
            left = [u for u in left if images[u] not in used_images]
    return retrieved

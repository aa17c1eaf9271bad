"""Clusters of the joint feature set and their medoids, which become aligned pairs (Algorithm 1)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairuni.config import Clustering
from pairuni.pairug.selection.features import on_grid
from pairuni.pairug.selection.kmeans import Clusters, fit_kmeans, seed_rows

_BLOCK = 8192
_FAISS_ITERATIONS = 20


def fit_clusters(
    features: NDArray[np.float32],
    clusters: int,
    seed: int,
    how: Clustering = "reference",
    device: str = "auto",
) -> Clusters:
    """k-means of features [N, D], L2-normalised, of U and G together.

    how: "reference" is scikit-learn's MiniBatchKMeans, which the paper names, with one k-means++ start and batches
    of 4,096; "torch" is ``kmeans.fit_kmeans`` on ``device``; "faiss" runs Lloyd iterations of faiss on the CPU from
    torch's seeds. Raises ValueError when there are more clusters than rows, ImportError without faiss.
    """
    if not 1 <= clusters <= len(features):
        raise ValueError(f"{clusters} clusters for {len(features)} samples; choose 1 to {len(features)}")
    if how == "torch":
        return fit_kmeans(features, clusters, seed, device=device)
    if how == "faiss":
        return _fit_faiss(features, clusters, seed, device)
    from sklearn.cluster import MiniBatchKMeans

    # scikit-learn refuses larger seeds
    fitted = MiniBatchKMeans(clusters, random_state=seed % 2**32, batch_size=4096, n_init=1).fit(features)
    return Clusters(fitted.cluster_centers_, fitted.labels_.astype(np.int64), float(fitted.inertia_))


def medoids_of(
    features: NDArray[np.float32], fitted: Clusters, among: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """Rows of the medoids, ascending: of each cluster k that has members, the one with the largest <f_i, c_k>.

    features: [N, D]. among: [N], the rows that may be medoids; a cluster without any has none. The lowest row wins a
    tie.
    """
    centres = on_grid(fitted.centres)
    closeness = np.empty(len(features))
    for start in range(0, len(features), _BLOCK):
        block = slice(start, start + _BLOCK)
        closeness[block] = np.einsum("nd,nd->n", on_grid(features[block]), centres[fitted.labels[block]])
    if among is not None:
        closeness[~among] = -np.inf
    # Sorted by cluster, then closeness, then row: the first row of each cluster is its medoid.
    order = np.lexsort((np.arange(len(features)), -closeness, fitted.labels))
    _, first = np.unique(fitted.labels[order], return_index=True)
    medoids = order[first]
    return np.sort(medoids if among is None else medoids[among[medoids]])


def _fit_faiss(features: NDArray[np.float32], clusters: int, seed: int, device: str) -> Clusters:
    try:
        import faiss
    except ImportError:
        raise ImportError(
            "clustering = faiss needs the package faiss: pip install 'pairuni[faiss]'"
        ) from None
    rows = np.ascontiguousarray(features, dtype=np.float32)
    seeds = seed_rows(rows, clusters, seed, device=device)
    seeds += [seeds[0]] * (clusters - len(seeds))
    kmeans: Any = faiss.Kmeans(
        rows.shape[1],
        clusters,
        niter=_FAISS_ITERATIONS,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=len(rows),
    )
    kmeans.train(rows, init_centroids=rows[seeds])
    distances, labels = kmeans.index.search(rows, 1)
    return Clusters(kmeans.centroids, labels[:, 0].astype(np.int64), float(distances.sum(dtype=np.float64)))

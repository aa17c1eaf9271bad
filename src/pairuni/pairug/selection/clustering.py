"""Medoids of the joint feature set: the images that become aligned self-pairs (Algorithm 1)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairuni.config import Clustering
from pairuni.pairug.selection.features import on_grid
from pairuni.pairug.selection.kmeans import Clusters, fit_kmeans, seed_rows

_BLOCK = 8192
_FAISS_ITERATIONS = 20


def cluster_medoids(
    features: NDArray[np.float32],
    clusters: int,
    seed: int,
    how: Clustering = "reference",
    device: str = "auto",
) -> NDArray[np.int64]:
    """Row of the medoid of each cluster, ascending.

    features: [N, D], L2-normalised, of U and G together. The medoid of cluster k is the member with the
    largest <f_i, c_k>, the lowest row where several are equal. Clusters that end empty have none.
    Raises ValueError when there are more clusters than rows, ImportError without faiss.
    """
    fitted = fit_clusters(features, clusters, seed, how, device)
    return medoids_of(features, fitted)


def medoids_of(features: NDArray[np.float32], fitted: Clusters) -> NDArray[np.int64]:
    """The member with the largest inner product with the centre, of each cluster that has members; ascending."""
    centres = on_grid(fitted.centres)
    closeness = np.empty(len(features))
    for start in range(0, len(features), _BLOCK):
        block = slice(start, start + _BLOCK)
        closeness[block] = np.einsum("nd,nd->n", on_grid(features[block]), centres[fitted.labels[block]])
    # Sorted by cluster, then closeness, then row: the first row of each cluster is its medoid.
    order = np.lexsort((np.arange(len(features)), -closeness, fitted.labels))
    _, first = np.unique(fitted.labels[order], return_index=True)
    return np.sort(order[first])


def fit_clusters(
    features: NDArray[np.float32],
    clusters: int,
    seed: int,
    how: Clustering = "reference",
    device: str = "auto",
) -> Clusters:
    """k-means, fitted; what it does depends on ``how``.

    reference: scikit-learn's MiniBatchKMeans, one k-means++ start, batches of 4,096, as the paper names it.
    torch: ``kmeans.fit_kmeans`` on ``device``. faiss: its Lloyd iterations from the seeds of torch's, on the CPU.
    Raises ValueError when there are more clusters than rows, ImportError without faiss.
    """
    if not 1 <= clusters <= len(features):
        raise ValueError(
            f"{clusters} clusters of {len(features)} samples: give 1 to {len(features)} clusters"
        )
    if how == "torch":
        return fit_kmeans(features, clusters, seed, device=device)
    if how == "faiss":
        return _fit_faiss(features, clusters, seed, device)
    from sklearn.cluster import MiniBatchKMeans

    fitted = MiniBatchKMeans(clusters, random_state=seed, batch_size=4096, n_init=1).fit(features)
    return Clusters(fitted.cluster_centers_, fitted.labels_.astype(np.int64), float(fitted.inertia_))


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

"""Medoids of the joint feature set: the images that become aligned self-pairs (Algorithm 1)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans

from pairuni.pairug.features import on_grid


def cluster_medoids(features: NDArray[np.float32], clusters: int, seed: int) -> NDArray[np.int64]:
    """Row of the medoid of each cluster, ascending.

    features: [N, D], L2-normalised, of U and G together. The medoid of cluster k is the member with the
    largest <f_i, c_k>, the lowest row where several are equal. Clusters that end empty have none.
    Raises ValueError when there are more clusters than rows.
    """
    if not 1 <= clusters <= len(features):
        raise ValueError(
            f"{clusters} clusters of {len(features)} samples: give 1 to {len(features)} clusters"
        )
    kmeans = fit_clusters(features, clusters, seed)
    labels = kmeans.labels_
    closeness = np.einsum("nd,nd->n", on_grid(features), on_grid(kmeans.cluster_centers_)[labels])
    # Sorted by cluster, then closeness, then row: the first row of each cluster is its medoid.
    order = np.lexsort((np.arange(len(features)), -closeness, labels))
    _, first = np.unique(labels[order], return_index=True)
    return np.sort(order[first])


def fit_clusters(features: NDArray[np.float32], clusters: int, seed: int) -> MiniBatchKMeans:
    """Mini-batch k-means, fitted; one k-means++ start, batches of 4,096."""
    return MiniBatchKMeans(clusters, random_state=seed, batch_size=4096, n_init=1).fit(features)

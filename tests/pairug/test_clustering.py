"""k-means on torch and faiss against Lloyd written down and against scikit-learn."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pairuni.pairug.selection import kmeans
from pairuni.pairug.selection.clustering import fit_clusters, medoids_of
from pairuni.pairug.selection.features import l2_normalise
from reference.lloyd import inertia, lloyd


def clustered(rows: int, width: int, groups: int, seed: int, noise: float = 0.8) -> NDArray[np.float32]:
    """Non-negative directions around ``groups`` of uneven sizes."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(groups, width))
    of = rng.choice(groups, rows, p=rng.dirichlet(np.ones(groups)))
    points = centres[of] + noise * rng.normal(size=(rows, width))
    return l2_normalise(np.maximum(0, points).astype(np.float32))


@pytest.mark.parametrize("iterations", [1, 2, 5])
def test_iterations_equal_lloyd_s_though_most_distances_are_not_computed(iterations):
    features = clustered(600, 24, 30, seed=1)
    labels = np.random.default_rng(0).permutation(np.arange(600) % 12)
    state = kmeans._Lloyd(torch.from_numpy(features), 12, "cpu")
    state.start(torch.from_numpy(labels))
    state.run(iterations, tolerance=0.0)
    expected = lloyd(features.astype(np.float64), labels, 12, iterations)
    assert np.array_equal(state.labels.numpy(), expected)
    assert float(state.distances.sum()) == pytest.approx(inertia(features.astype(np.float64), expected), 1e-5)


@pytest.mark.parametrize(("width", "noise"), [(64, 0.8), (64, 2.0), (400, 1.0)])
@pytest.mark.parametrize("how", ["torch", "faiss"])
def test_inertia_is_at_most_a_hundredth_above_scikit_learn_s(width, noise, how):
    if how == "faiss":
        pytest.importorskip("faiss")
    features = clustered(3000, width, 150, seed=2, noise=noise)
    reference = fit_clusters(features, 150, 2**32, "reference")  # scikit-learn's own seeds end before
    made = fit_clusters(features, 150, 0, how)
    assert made.inertia < 1.01 * reference.inertia
    assert len(np.unique(made.labels)) == 150
    assert made.inertia == pytest.approx(
        float(((features.astype(np.float64) - made.centres[made.labels]) ** 2).sum()), rel=1e-3
    )


def test_centres_are_the_means_and_the_seed_decides():
    features = clustered(500, 300, 20, seed=3)
    made = fit_clusters(features, 20, 7, "torch")
    means = np.stack([features[made.labels == one].astype(np.float64).mean(axis=0) for one in range(20)])
    assert np.allclose(made.centres, means, atol=1e-7)
    again, other = fit_clusters(features, 20, 7, "torch"), fit_clusters(features, 20, 8, "torch")
    assert np.array_equal(made.centres, again.centres)
    assert np.array_equal(made.labels, again.labels)
    assert not np.array_equal(made.labels, other.labels)


def test_small_parts_change_nothing(monkeypatch):
    features = clustered(400, 32, 25, seed=4)
    whole = fit_clusters(features, 25, 0, "torch")
    monkeypatch.setattr(kmeans, "_SCORES", 700)
    monkeypatch.setattr(kmeans, "_COLUMNS", 7)
    assert np.array_equal(fit_clusters(features, 25, 0, "torch").labels, whole.labels)


def test_medoids_are_the_members_nearest_their_centre():
    features = clustered(300, 16, 10, seed=5)
    made = fit_clusters(features, 10, 0, "torch")
    medoids = medoids_of(features, made)
    assert sorted(made.labels[medoids].tolist()) == list(range(10))
    for medoid in medoids:
        members = np.flatnonzero(made.labels == made.labels[medoid])
        closeness = features[members].astype(np.float64) @ made.centres[made.labels[medoid]].astype(
            np.float64
        )
        assert members[closeness.argmax()] == medoid


def medoids(features, clusters):
    return medoids_of(features, fit_clusters(features, clusters, 0, "torch"))


def test_one_cluster_as_many_as_rows_and_copies():
    features = clustered(40, 8, 10, seed=6)
    assert len(medoids(features, 1)) == 1
    assert medoids(features, 40).tolist() == list(range(40))
    copies = np.repeat(features[:3], 5, axis=0)
    assert medoids(copies, 6).tolist()[:1] == [0]
    assert {0, 5, 10} <= set(medoids(copies, 6).tolist())
    with pytest.raises(ValueError, match="9 clusters for 3 samples"):
        medoids(features[:3], 9)


def test_without_faiss_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match=r"pip install 'pairuni\[faiss\]'"):
        fit_clusters(clustered(20, 16, 3, seed=0), 3, 0, "faiss")

"""Clustering, aligned and retrieved pairs against a literal Algorithm 1, pair for pair."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from pairuni.config import Selection
from pairuni.pairug.selection import matching
from pairuni.pairug.selection.algorithm1 import JointSet, aligned_pairs, as_pairs, retrieved_pairs
from pairuni.pairug.selection.clustering import fit_clusters
from pairuni.pairug.selection.features import l2_normalise
from pairuni.records import Quadruple, UGPair
from reference.algorithm1 import algorithm1


def random_features(rows: int, seed: int, spread: float = 3.0) -> NDArray[np.float32]:
    """Non-negative directions; a row in fifty equals another one, so that there are ties to break."""
    rng = np.random.default_rng(seed)
    features = rng.random((rows, 64)) ** spread
    copies = rng.integers(rows, size=rows // 50)
    features[rng.integers(rows, size=len(copies))] = features[copies]
    return l2_normalise(features.astype(np.float32))


def quadruples(understanding: int, generation: int, images: list[str] | None = None) -> list[Quadruple]:
    """U then G; every sample has an image of its own unless ``images`` says otherwise."""
    origins = ["understanding"] * understanding + ["generation"] * generation
    names = images or [f"{row}.png" for row in range(len(origins))]
    return [
        Quadruple.model_validate(
            {"id": f"{row}", "origin": origin, "image_path": name, "row": row}
            | {"prompt": f"c{row}", "question": f"q{row}", "answer": f"a{row}"}
        )
        for row, (origin, name) in enumerate(zip(origins, names, strict=True))
    ]


def rows(pairs: list[UGPair]) -> list[tuple[int, int, float]]:
    return [
        (int(pair.generate_ann.prompt[1:]), int(pair.understand_ann.prompt[1:]), pair.similarity)
        for pair in pairs
    ]


def select_pairs(
    data: list[Quadruple],
    features: NDArray[np.float32],
    *,
    clusters: int,
    threshold: float,
    max_matches: int,
    seed: int,
    selection: Selection = "medoids",
) -> list[UGPair]:
    joint = JointSet.of(data, features)
    fitted = fit_clusters(features, clusters, seed)
    aligned = aligned_pairs(joint, fitted, selection, seed)
    retrieved = retrieved_pairs(
        joint, aligned, fitted, threshold=threshold, max_matches=max_matches, seed=seed
    )
    return list(as_pairs(data, [*aligned, *retrieved.matches]))


def both(
    data: list[Quadruple], features: NDArray[np.float32], **settings: float | str
) -> tuple[list[UGPair], list[tuple[int, int, float]]]:
    origins, images = [one.origin for one in data], [one.image_path for one in data]
    pairs = select_pairs(data, features, **settings)  # type: ignore[arg-type]
    expected = algorithm1(features, origins, images, **settings)  # type: ignore[arg-type]
    return pairs, [(g, u, round(similarity, 6)) for g, u, similarity in expected]


@pytest.mark.parametrize("count", [2_400, pytest.param(10_000, marks=pytest.mark.slow)])
def test_thousands_of_rows_pair_for_pair(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "_COLUMNS", 500)
    data, features = quadruples(count // 2, count // 2), random_features(count, seed=1)
    clusters = 3 * count // 100
    pairs, expected = both(data, features, clusters=clusters, threshold=0.7, max_matches=1, seed=0)
    assert rows(pairs) == expected
    kinds = Counter(pair.kind for pair in pairs)
    assert kinds["aligned"] == clusters
    most = (count - 2 * clusters) // 2
    assert most / 5 < kinds["retrieved"] < most, "the threshold must leave some unpaired, or it is not tried"
    used = [side.image_path for pair in pairs for side in (pair.generate_ann, pair.understand_ann)]
    assert len(set(used)) == 2 * kinds["retrieved"] + kinds["aligned"]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("threshold", [0.0, 0.65, 0.8, 1.0])
def test_three_neighbours_pair_for_pair(seed: int, threshold: float) -> None:
    data, features = quadruples(400, 250), random_features(650, seed)
    pairs, expected = both(data, features, clusters=20, threshold=threshold, max_matches=3, seed=seed)
    assert rows(pairs) == expected
    drawn = Counter(pair.generate_ann.image_path for pair in pairs if pair.kind == "retrieved")
    assert max(drawn.values(), default=0) <= 3
    asked = Counter(pair.understand_ann.image_path for pair in pairs)
    assert max(asked.values()) == 1
    assert all(pair.similarity >= threshold for pair in pairs)


@pytest.mark.parametrize("max_matches", [1, 3])
def test_samples_that_share_an_image_are_used_once(max_matches: int) -> None:
    rng = np.random.default_rng(4)
    names = [f"{image}.png" for image in rng.integers(150, size=500)]
    distinct = random_features(150, seed=4)
    features = distinct[[int(name.removesuffix(".png")) for name in names]]
    data = quadruples(300, 200, names)
    pairs, expected = both(data, features, clusters=12, threshold=0.5, max_matches=max_matches, seed=3)
    assert rows(pairs) == expected
    medoids = {pair.generate_ann.image_path for pair in pairs if pair.generate_ann == pair.understand_ann}
    others = [pair for pair in pairs if pair.generate_ann != pair.understand_ann]
    asked = [pair.understand_ann.image_path for pair in others]
    assert len(asked) == len(set(asked))
    assert not medoids & {*asked, *(pair.generate_ann.image_path for pair in others)}
    assert {pair.similarity for pair in others if pair.kind == "aligned"} == {1.0}


def test_only_generation_data_gives_aligned_pairs_alone() -> None:
    pairs, expected = both(
        quadruples(0, 60), random_features(60, 0), clusters=5, threshold=0.0, max_matches=1, seed=0
    )
    assert rows(pairs) == expected
    assert len(pairs) == 5


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_random_selection_pair_for_pair(seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = [f"{image}.png" for image in rng.integers(300, size=500)]
    features = random_features(300, seed)[[int(name.removesuffix(".png")) for name in names]]
    data = quadruples(300, 200, names)
    settings = {"clusters": 40, "threshold": 0.6, "max_matches": 2, "seed": seed}
    medoids, _ = both(data, features, **settings)
    pairs, expected = both(data, features, **settings, selection="random")
    assert rows(pairs) == expected
    same = [[pair for pair in made if pair.generate_ann == pair.understand_ann] for made in (medoids, pairs)]
    assert len(same[0]) == len(same[1])
    assert same[0] != same[1]
    assert len({pair.generate_ann.image_path for pair in same[1]}) == len(same[1])
    assert len(pairs) > len(same[1]) + 10, "retrieval works on what a random selection leaves"


def test_a_random_selection_is_uniform() -> None:
    data, features = quadruples(30, 30), random_features(60, 0)
    joint, fitted = JointSet.of(data, features), fit_clusters(features, 6, 0)
    chosen = Counter(
        pair.generation for seed in range(2000) for pair in aligned_pairs(joint, fitted, "random", seed)
    )
    assert chosen.total() == 2000 * len(aligned_pairs(joint, fitted))
    expected = chosen.total() / 60
    # Beyond 4.5 standard deviations of a binomial count
    assert max(abs(chosen[row] - expected) for row in range(60)) < 4.5 * np.sqrt(expected)

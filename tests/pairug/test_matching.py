"""Clustering and matching on small sets: ties, shared images, thresholds, medoids."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from test_algorithm1 import select_pairs

from pairuni.pairug.selection.clustering import fit_clusters, medoids_of
from pairuni.pairug.selection.features import l2_normalise
from pairuni.pairug.selection.matching import Match, match_sequential
from pairuni.records import Quadruple
from reference.algorithm1 import retrieval


def medoids(features, clusters, seed):
    return medoids_of(features, fit_clusters(features, clusters, seed))


def quadruple(row: int, origin: str, image_path: str) -> Quadruple:
    return Quadruple(
        id=f"{origin}-{row}", origin=origin, image_path=image_path, prompt="a", question="b", answer="c"
    )


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    sizes=st.tuples(st.integers(0, 30), st.integers(0, 30)),
    threshold=st.sampled_from([0.0, 0.6, 0.9, 1.0]),
    max_matches=st.integers(1, 4),
)
def test_small_sets_with_many_ties_equal_the_literal_loop(seed, sizes, threshold, max_matches):
    rng = np.random.default_rng(seed)
    few = l2_normalise(rng.integers(-1, 3, size=(12, 3)).astype(np.float32) + 0.1)
    generation, understanding = (few[rng.integers(0, 12, size)] for size in sizes)
    features = np.concatenate([understanding, generation])
    rows = range(len(understanding), len(features))
    images = [str(row) for row in range(len(features))]
    expected = retrieval(features, range(len(understanding)), rows, images, threshold, max_matches)
    made = match_sequential(generation, understanding, threshold, max_matches)
    assert [(m.generation + len(understanding), m.understanding, m.similarity) for m in made] == expected


def test_nothing_under_the_threshold_and_the_lower_row_wins_a_tie():
    understanding = l2_normalise(np.array([[0, 1], [1, 1], [1, 1], [1, 0]], np.float32))
    generation = l2_normalise(np.array([[1, 1], [1, 1], [1, 1]], np.float32))
    made = match_sequential(generation, understanding, 0.8, 1)
    assert [(m.generation, m.understanding) for m in made] == [(0, 1), (1, 2)]


def test_cosines_are_clamped():
    ones = l2_normalise(np.full((1, 3), 0.3, np.float32))
    assert match_sequential(ones, ones, 0.5, 1)[0].similarity <= 1.0
    assert match_sequential(ones, -ones, 0.0, 1) == [Match(0, 0, 0.0)]


def test_an_image_that_several_rows_share_is_used_once():
    same = l2_normalise(np.ones((4, 2), np.float32))
    made = match_sequential(same, same, 0.5, 1, ["g", "g", "h", "u"], ["u", "u", "v", "g"])
    # g takes u, so u is gone from both sets and so is g's own copy in U; h takes v.
    assert [(m.generation, m.understanding) for m in made] == [(0, 0), (2, 2)]


def test_two_neighbours_are_two_images():
    same = l2_normalise(np.ones((3, 2), np.float32))
    made = match_sequential(same[:1], same, 0.5, 2, ["g"], ["u", "u", "v"])
    assert [m.understanding for m in made] == [0, 2]


def test_medoids_share_no_image_and_leave_with_their_copies():
    quadruples = [quadruple(row, "understanding", f"{row // 2}.png") for row in range(8)]
    quadruples += [quadruple(row, "generation", f"{row // 2}.png") for row in range(8)]
    features = l2_normalise(np.repeat(np.random.default_rng(0).random((4, 6)), 2, axis=0).astype(np.float32))
    pairs = select_pairs(
        quadruples, np.concatenate([features] * 2), clusters=2, threshold=0.0, max_matches=1, seed=0
    )
    images = [{p.generate_ann.image_path, p.understand_ann.image_path} for p in pairs]
    assert sum(map(len, images)) == len(set().union(*images)) == 4
    assert all(p.kind == "aligned" and p.similarity == 1.0 for p in pairs)
    shared = [p for p in pairs if p.generate_ann != p.understand_ann]
    assert [(p.generate_ann.origin, p.understand_ann.origin) for p in shared] == [
        ("generation", "understanding")
    ] * 2


def test_medoids_are_distinct_and_follow_the_seed():
    features = l2_normalise(np.random.default_rng(1).random((300, 8)).astype(np.float32))
    found = medoids(features, 20, seed=3)
    assert len(set(found.tolist())) == len(found) <= 20
    assert np.array_equal(found, medoids(features, 20, seed=3))
    assert not np.array_equal(found, medoids(features, 20, seed=4))

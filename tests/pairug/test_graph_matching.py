"""The matchings by candidates against literal loops and an exact solver, on small random cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from pairuni.pairug.selection import candidates, matching
from pairuni.pairug.selection.candidates import Cells, find_candidates
from pairuni.pairug.selection.features import l2_normalise
from pairuni.pairug.selection.matching import match, match_sequential

CASES = {
    "seed": st.integers(0, 10_000),
    "sizes": st.tuples(st.integers(0, 14), st.integers(0, 14)),
    "threshold": st.sampled_from([0.0, 0.5, 0.8, 1.0]),
    "max_matches": st.integers(1, 3),
}


def sides(seed, sizes, ties=False):
    rng = np.random.default_rng(seed)
    if ties:
        few = l2_normalise(rng.integers(-1, 3, size=(6, 3)).astype(np.float32) + 0.1)
        return [few[rng.integers(0, 6, size)] for size in sizes]
    return [l2_normalise(rng.normal(0.4, 1, size=(size + 1, 4)).astype(np.float32))[:size] for size in sizes]


def cosines(generation, understanding):
    return (generation.astype(np.float64) @ understanding.astype(np.float64).T).clip(0, 1)


def total(matches):
    return sum(found.similarity for found in matches)


def best_total(generation, understanding, threshold, max_matches):
    """The exact optimum by a dense solver: each row of G n times, a partner worth 0 for each copy."""
    worth = cosines(generation, understanding)
    worth = np.repeat(np.where(worth >= threshold, worth, 0.0), max_matches, axis=0)
    if not worth.size:
        return 0.0
    rows, columns = linear_sum_assignment(worth, maximize=True)
    return float(worth[rows, columns].sum())


def literal_greedy(generation, understanding, threshold, max_matches):
    worth = cosines(generation, understanding)
    edges = [(-worth[g, u], g, u) for g in range(worth.shape[0]) for u in range(worth.shape[1])]
    count, used, taken = dict.fromkeys(range(len(generation)), 0), set(), []
    for negative, g, u in sorted(edges):
        if -negative >= threshold and count[g] < max_matches and u not in used:
            count[g] += 1
            used.add(u)
            taken.append((g, u))
    return sorted(taken)


@settings(max_examples=150, deadline=None)
@given(**CASES, most=st.sampled_from([3, 64]))
def test_optimal_is_the_largest_total_and_greedy_at_least_half(seed, sizes, threshold, max_matches, most):
    generation, understanding = sides(seed, sizes)
    made = {
        how: match(generation, understanding, threshold, max_matches, how=how, candidates=most).matches
        for how in ("sequential", "greedy", "optimal")
    }
    for found in made.values():
        assert all(one.similarity >= threshold for one in found)
        assert len({one.understanding for one in found}) == len(found)
        assert max(np.bincount([one.generation for one in found]), default=0) <= max_matches
        true = cosines(generation, understanding)
        assert all(one.similarity == true[one.generation, one.understanding] for one in found)
    assert made["sequential"] == match_sequential(generation, understanding, threshold, max_matches)
    most_worth = best_total(generation, understanding, threshold, max_matches)
    assert total(made["optimal"]) <= most_worth + 1e-9
    if most == 64:
        assert total(made["optimal"]) == pytest.approx(most_worth, abs=1e-6)
        assert total(made["greedy"]) >= most_worth / 2 - 1e-6
        pairs = [(one.generation, one.understanding) for one in made["greedy"]]
        assert pairs == literal_greedy(generation, understanding, threshold, max_matches)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), how=st.sampled_from(["greedy", "optimal"]), most=st.integers(1, 4))
def test_few_candidates_leave_no_two_apart_that_could_be_a_pair(seed, how, most):
    generation, understanding = sides(seed, (20, 15), ties=True)
    made = match(generation, understanding, 0.6, 1, how=how, candidates=most).matches
    g_left = np.setdiff1d(np.arange(20), [one.generation for one in made])
    u_left = np.setdiff1d(np.arange(15), [one.understanding for one in made])
    assert (cosines(generation[g_left], understanding[u_left]) < 0.6).all()


def largest(edges, max_matches, used=frozenset(), owner=()):
    """The largest total by trying everything; edges: (worth, row of G, image of G, image of U)."""
    if not edges:
        return 0.0
    (worth, row, g, u), rest = edges[0], edges[1:]
    without = largest(rest, max_matches, used, owner)
    mine = [other for other, image in owner if image == g]
    free = (set(mine) == {row} and len(mine) < max_matches) or g not in used
    if u in used or not free:
        return without
    return max(without, worth + largest(rest, max_matches, used | {g, u}, (*owner, (row, g))))


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 10_000), max_matches=st.integers(1, 2))
def test_images_that_rows_and_sets_share_are_used_once(seed, max_matches):
    rng = np.random.default_rng(seed)
    features = l2_normalise(rng.normal(0.6, 1, (5, 3)).astype(np.float32))
    g, u = rng.integers(0, 5, 3), rng.integers(0, 5, 4)
    names = [[f"{image}.png" for image in side] for side in (g, u)]
    worth = cosines(features[g], features[u])
    edges = [
        (worth[row, column], row, g[row], u[column])
        for row in range(3)
        for column in range(4)
        if worth[row, column] >= 0.3
    ]
    edges.sort(key=lambda edge: edge[2] != edge[3])  # an image takes itself first, or not at all
    most = largest(edges, max_matches)
    for how in ("sequential", "greedy", "optimal"):
        made = match(features[g], features[u], 0.3, max_matches, *names, how=how, candidates=8).matches
        drawn = {one.generation for one in made}
        images = [g[row] for row in drawn] + [u[one.understanding] for one in made]
        own = sum(g[one.generation] == u[one.understanding] for one in made)
        assert len(images) - len(set(images)) == own, "only a pair of an image with itself names it twice"
        assert total(made) <= most + 1e-6
        assert total(made) >= most / 2 - 1e-6 or how == "sequential"
        if how == "optimal":
            assert total(made) == pytest.approx(most, abs=1e-6)


def clustered(rows, clusters, seed, noise=0.5, dimensions=64):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(clusters, dimensions))
    points = centres[rng.integers(0, clusters, rows)]
    return l2_normalise((points + noise * rng.normal(size=points.shape)).astype(np.float32))


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(candidates, "EXACT_COMPARISONS", 1000)
    monkeypatch.setattr(candidates, "_ROWS", 100)
    monkeypatch.setattr(candidates, "_COLUMNS", 130)


def edges_of(found):
    return set(zip(found.generation.tolist(), found.understanding.tolist(), strict=True))


def test_blocks_find_what_one_product_finds(small_blocks):
    generation, understanding = clustered(310, 20, 1), clustered(270, 20, 2)
    found = find_candidates(generation, understanding, 0.6, 5)
    worth = cosines(generation, understanding)
    nearest = np.argsort(-worth, axis=1)[:, :5]
    expected = {(g, int(u)) for g in range(310) for u in nearest[g] if worth[g, u] >= 0.6}
    assert edges_of(found) == expected
    assert found.recall == 1
    assert found.comparisons == 310 * 270
    assert found.full.tolist() == (np.sort(worth, axis=1)[:, -5] >= 0.6).tolist()


def test_the_index_reaches_its_recall_with_a_fraction_of_the_cosines(small_blocks):
    generation, understanding = clustered(3000, 150, 1, noise=1.0), clustered(2500, 150, 2, noise=1.0)
    anchors = l2_normalise(np.random.default_rng(0).normal(size=(150, 64)).astype(np.float32))
    found = find_candidates(
        generation, understanding, 0.4, 8, cells=Cells.around(anchors, generation, understanding), seed=0
    )
    true = edges_of(find_candidates(generation, understanding, 0.4, 8))
    reached = len(edges_of(found) & true) / len(true)
    assert found.comparisons < 0.4 * 3000 * 2500
    assert reached > 0.98
    assert found.recall == pytest.approx(reached, abs=0.015)
    assert found.recall < 1


def test_the_index_gives_way_where_nothing_is_near(small_blocks):
    rng = np.random.default_rng(0)
    generation, understanding = (l2_normalise(rng.random((400, 6)).astype(np.float32)) for _ in range(2))
    cells = Cells.around(understanding[:30], generation, understanding)
    found = find_candidates(generation, understanding, 0.2, 300, cells=cells, seed=0)
    assert found.recall == 1
    assert found.comparisons == 160_000


def test_cosines_at_the_threshold_are_decided_exactly():
    understanding = l2_normalise(np.array([[0.6, 0.8], [0.6, 0.8000001]], np.float32))
    generation = l2_normalise(np.array([[1.0, 0.0], [1.0, 0.0]], np.float32))
    exact = cosines(generation, understanding)[0]
    assert exact[0] != exact[1]
    for threshold in exact:
        made = match(generation, understanding, float(threshold), 1, how="greedy", candidates=4)
        assert len(made.matches) == int((exact >= threshold).sum())


@pytest.mark.parametrize("how", ["greedy", "optimal"])
def test_rows_full_of_neighbours_just_under_the_threshold_come_to_an_end(monkeypatch, how):
    monkeypatch.setattr(matching, "_EDGES", 4000)
    near = 0.6 - 4e-6
    left = l2_normalise(np.tile(np.array([[1.0, 0.0]], np.float32), (200, 1)))
    right = l2_normalise(np.tile(np.array([[near, np.sqrt(1 - near**2)]], np.float32), (200, 1)))
    found = match(left, right, 0.6, 1, how=how, candidates=8)
    assert found.matches == []
    assert len(found.searches) < 6


def test_many_equal_rows_are_all_paired():
    same = l2_normalise(np.ones((300, 4), np.float32))
    for how in ("greedy", "optimal"):
        assert len(match(same, same[:200], 0.5, 1, how=how, candidates=2).matches) == 200

import math

import numpy as np
import pytest

from pairuni.intervals import bootstrap_interval, median_interval, wilson_interval


def test_wilson_interval_solves_its_equation() -> None:
    # the ends are where |score - p| is 1.96 standard errors of p
    for score, count in ((0.5, 10), (0.9, 40), (0.02, 500)):
        for end in wilson_interval(score, count):
            assert abs(score - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / count), rel=1e-5)
    assert wilson_interval(0.0, 20)[0] == 0.0
    assert wilson_interval(1.0, 20)[1] == 1.0


def test_published_values() -> None:
    # Newcombe 1998, table I: 81 of 263 and 0 of 20.
    assert wilson_interval(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(0.0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_bootstrap_of_a_share_is_near_wilson() -> None:
    for right, count in ((50, 200), (450, 500)):
        low, high = bootstrap_interval([[1.0] * right + [0.0] * (count - right)], lambda means: means[0])
        assert (low, high) == pytest.approx(wilson_interval(right / count, count), abs=0.01)


def test_bootstrap_keeps_the_parts_apart() -> None:
    # parts that differ but are each of one value leave nothing to chance, which says nothing of other items
    assert bootstrap_interval([[0.0] * 5, [1.0] * 9], lambda means: (means[0] + means[1]) / 2) is None
    assert bootstrap_interval([[0.0, 1.0], [1.0]], lambda means: (means[0] + means[1]) / 2) is None
    low, high = bootstrap_interval([[[1.0, 2.0], [3.0, 4.0]]], lambda means: means[0][:, 0] / means[0][:, 1])
    assert (low, high) == (0.5, 0.75)
    with pytest.raises(ValueError, match="at least one item in every part"):
        bootstrap_interval([[1.0], []], lambda means: means[0])


def test_median_interval_covers_the_median_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        low, high = median_interval(rng.standard_normal(40).tolist(), resamples=400, seed=seed)
        covered += low <= 0.0 <= high
    assert 0.9 <= covered / 200 <= 0.99
    assert median_interval([0.5, 0.5, 0.5]) is None

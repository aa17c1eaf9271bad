import math

import pytest

from pairuni.intervals import wilson_interval


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

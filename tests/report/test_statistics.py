import math
import random

import numpy as np
import pytest

from pairuni.report.axes import number
from pairuni.report.charts import histogram
from pairuni.report.statistics import nice_ticks, paired_difference, smoothed, with_extremes


def test_paired_difference() -> None:
    before = [True] * 30 + [False] * 70
    after = [True] * 25 + [False] * 5 + [True] * 20 + [False] * 50
    change, low, high = paired_difference(before, after)
    assert change == pytest.approx(0.15)
    spread = math.sqrt((20 + 5) / 100 - 0.15**2) / 10
    assert (low, high) == pytest.approx((0.15 - 1.959964 * spread, 0.15 + 1.959964 * spread))
    with pytest.raises(ValueError, match="same items"):
        paired_difference([True], [])


def test_smoothing_keeps_a_line_and_averages_noise() -> None:
    line = [0.5 + 0.25 * step for step in range(20)]
    assert smoothed(line, 7) == pytest.approx(line)
    bumpy = [step % 2 for step in range(40)]
    assert all(abs(value - 0.5) < 0.1 for value in smoothed(bumpy, 11)[6:-6])
    assert smoothed([3.0], 5) == [3.0]
    assert smoothed([], 5) == []


@pytest.mark.parametrize("window", [2, 3, 8, 41])
def test_smoothing_is_the_least_squares_line_of_each_window(window: int) -> None:
    rng = random.Random(window)
    values = [1e6 + rng.gauss(0, 1) for _ in range(40)]
    half = window // 2
    fitted = []
    for index in range(len(values)):
        at = range(max(0, index - half), min(len(values), index + half + 1))
        fitted.append(np.polyval(np.polyfit(at, [values[one] for one in at], 1), index))
    assert smoothed(values, window) == pytest.approx(fitted, rel=1e-9)


@pytest.mark.parametrize("most", [4, 5, 60, 801])
def test_long_lines_keep_their_ends_and_extremes(most: int) -> None:
    rng = random.Random(0)
    values = [rng.gauss(0, 1) for _ in range(10_000)]
    values[1234], values[8765] = 40.0, -40.0
    kept = with_extremes(values, most)
    assert kept == sorted(set(kept))
    assert most // 2 <= len(kept) <= most
    assert {0, 1234, 8765, 9_999} <= set(kept)
    assert with_extremes(values[:most], most) == list(range(most))


@pytest.mark.parametrize(
    ("low", "high", "about", "ticks"),
    [
        (0.0, 1.0, 4, [0, 0.25, 0.5, 0.75, 1]),
        (0.21, 0.34, 4, [0.2, 0.25, 0.3, 0.35]),
        (0.0, 0.0, 2, [0, 0.5, 1]),
        (-2.5, 4.5, 4, [-4, -2, 0, 2, 4, 6]),
        (0.0, 3.2e-7, 2, [0, 2e-7, 4e-7]),
    ],
)
def test_ticks_are_round_and_cover(low: float, high: float, about: int, ticks: list[float]) -> None:
    found = nice_ticks(low, high, about)
    assert found == pytest.approx(ticks, abs=1e-9 * max(1e-3, abs(high)))
    assert found[0] <= low <= high <= found[-1]


def test_histogram_counts_every_value() -> None:
    html = histogram([0.6, 0.6, 0.649, 0.65, 0.95, 1.0], title="t", width=0.05, unit="pairs")
    assert "0.60 to 0.65: 3 pairs" in html
    assert "0.65 to 0.70: 1 pairs" in html
    assert "0.95 to 1.00: 2 pairs" in html
    assert html.count("<rect") == 8


def test_numbers_are_short() -> None:
    assert [number(value) for value in (0, 0.61349, 12.44, 999.7, 1204.2, 1.2e-6, -1e-4, 2e15)] == [
        "0",
        "0.613",
        "12.4",
        "1,000",
        "1,204",
        "1.2e-6",
        "−1e-4",
        "2e+15",
    ]

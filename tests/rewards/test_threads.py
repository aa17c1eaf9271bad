import threading
import time

import pytest

from pairuni.rewards.threads import at_once


def test_results_keep_the_order_of_the_items() -> None:
    def late(item: int) -> int:
        time.sleep(0.02 * (3 - item % 4))
        return item * 10

    assert at_once(late, range(8), 4, threading.Event()) == [item * 10 for item in range(8)]
    assert at_once(late, [], 4, threading.Event()) == []


def test_the_first_exception_stops_the_rest_and_wakes_who_waits() -> None:
    begun: list[int] = []
    stopping = threading.Event()

    def work(item: int) -> None:
        begun.append(item)
        if item == 1:
            raise ValueError("item 1")
        if stopping.wait(10):
            raise ValueError("woken")

    before = time.monotonic()
    with pytest.raises(ValueError, match="item 1"):
        at_once(work, range(50), 3, stopping)
    assert time.monotonic() - before < 5
    assert len(begun) <= 4

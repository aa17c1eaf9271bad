import subprocess
import sys
import threading
import time

import pytest

from pairuni.io.threads import thread_map


def test_results_keep_the_order_of_the_items() -> None:
    def late(item: int) -> int:
        time.sleep(0.02 * (3 - item % 4))
        return item * 10

    assert thread_map(late, range(8), 4, threading.Event()) == [item * 10 for item in range(8)]
    assert thread_map(late, [], 4, threading.Event()) == []


def test_the_first_exception_stops_the_rest_and_wakes_who_waits() -> None:
    begun: list[int] = []
    stopping = threading.Event()

    woken: list[int] = []

    def work(item: int) -> None:
        begun.append(item)
        if item == 1:
            raise ValueError("item 1")
        if stopping.wait(10):
            woken.append(item)
            raise ValueError("woken")

    with pytest.raises(ValueError, match="item 1"):
        thread_map(work, range(50), 3, stopping)
    assert stopping.is_set()
    time.sleep(0.2)
    assert sorted([1, *woken]) == sorted(begun)
    assert len(begun) <= 4


SCRIPT = """
import threading, time
from pairuni.io.threads import thread_map

def work(item):
    if item == 1:
        raise ValueError("item 1")
    time.sleep(60)

thread_map(work, [0, 1, 2], 3, threading.Event())
"""


def test_a_thread_that_hangs_keeps_neither_the_caller_nor_the_process() -> None:
    ran = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, timeout=30, check=False)
    assert ran.returncode == 1
    assert b"ValueError: item 1" in ran.stderr

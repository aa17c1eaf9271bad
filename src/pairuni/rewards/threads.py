"""Work of many samples at once, in threads that never keep a process alive."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def at_once(
    work: Callable[[Item], Made], items: Sequence[Item], workers: int, stopping: threading.Event
) -> list[Made]:
    """What ``work`` makes of each item, in order.

    The first exception sets ``stopping``, on which ``work`` should wake up where it waits; no item is begun after
    it, and it is raised as soon as those in hand have ended.
    """
    numbers = iter(range(len(items)))
    lock = threading.Lock()
    made: dict[int, Made] = {}
    raised: list[BaseException] = []

    def run() -> None:
        while not stopping.is_set():
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            try:
                made[number] = work(items[number])
            except BaseException as error:  # carried to the thread that waits, which raises it
                with lock:
                    raised.append(error)
                stopping.set()

    threads = [threading.Thread(target=run, daemon=True) for _ in range(min(workers, len(items)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]
    return [made[number] for number in range(len(items))]

"""Work of many samples at once, in threads that never keep a process alive."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def at_once(
    work: Callable[[Item], Made], items: Sequence[Item], workers: int, stopping: threading.Event
) -> list[Made]:
    """What ``work`` makes of each item, in order.

    The first exception is raised at once. It sets ``stopping``, on which ``work`` should wake up where it waits; no
    item is begun after it.
    """
    numbers = iter(range(len(items)))
    lock = threading.Lock()
    ended: SimpleQueue[tuple[int, Made] | BaseException] = SimpleQueue()

    def run() -> None:
        while not stopping.is_set():
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            try:
                ended.put((number, work(items[number])))
            except BaseException as error:  # carried to the thread that waits, which raises it
                stopping.set()
                ended.put(error)

    for _ in range(min(workers, len(items))):
        threading.Thread(target=run, daemon=True).start()
    made: dict[int, Made] = {}
    while len(made) < len(items):
        end = ended.get()
        if isinstance(end, BaseException):
            raise end
        made[end[0]] = end[1]
    return [made[number] for number in range(len(items))]

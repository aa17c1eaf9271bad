"""Work in threads that never keep a process alive: many items at once, and calls with a time limit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def thread_map(
    work: Callable[[Item], Made],
    items: Sequence[Item],
    workers: int,
    stopping: threading.Event,
    *,
    finish_running: bool = False,
) -> list[Made]:
    """The results of ``work`` for all items, in their order, computed by ``workers`` threads.

    The first exception, or Ctrl-C, sets ``stopping`` and is raised. No item is started after that, and ``work``
    should end early where it waits. finish_running: before raising, wait for the items that are being worked on;
    a second Ctrl-C does not wait.
    """
    numbers = iter(range(len(items)))
    lock = threading.Lock()
    ended: SimpleQueue[tuple[int, Made] | BaseException] = SimpleQueue()
    running: list[tuple[threading.Thread, threading.Event]] = []

    def run(own: threading.Event) -> None:
        try:
            while not stopping.is_set():
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                ended.put((number, work(items[number])))
        except BaseException as error:  # raised by the thread that waits
            stopping.set()
            ended.put(error)
        finally:
            own.set()

    def wait_for_running() -> None:
        for thread, own in running if finish_running else ():
            # not join, which may report a thread as ended when Ctrl-C interrupts it; a thread may not have started
            while thread.ident is not None and not own.wait(0.2):
                pass

    made: dict[int, Made] = {}
    try:
        for _ in range(min(workers, len(items))):
            own = threading.Event()
            running.append((threading.Thread(target=run, args=(own,), daemon=True), own))
            running[-1][0].start()
        while len(made) < len(items):
            try:
                # a signal delivered to another thread does not interrupt this wait, so wait for short times
                end = ended.get(timeout=0.2)
            except Empty:
                continue
            if isinstance(end, BaseException):
                wait_for_running()
                raise end
            made[end[0]] = end[1]
    except KeyboardInterrupt:
        stopping.set()
        wait_for_running()
        raise
    return [made[number] for number in range(len(items))]


def call_within(seconds: float, work: Callable[[], Made], late: Exception) -> Made:
    """What ``work`` returns or raises; after ``seconds`` its thread is abandoned and ``late`` raised."""
    ended: SimpleQueue[tuple[Made] | BaseException] = SimpleQueue()

    def run() -> None:
        try:
            ended.put((work(),))
        except BaseException as error:  # raised by the thread that waits
            ended.put(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        end = ended.get(timeout=seconds)
    except Empty:
        raise late from None
    if isinstance(end, BaseException):
        raise end
    return end[0]

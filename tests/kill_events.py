"""Kills a piece of work at a chosen file event, in a forked child: SIGKILL as it comes from outside."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

EVENTS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link", "os.symlink"}
"""Audit events of Python; os.replace is os.rename. Those of `open` count when the file is opened for writing."""


def run_child(work: Callable[[], Any], folder: Path, *, kill_at: int | None = None) -> int | None:
    """Do ``work`` in a child that dies before its ``kill_at``-th change of a file under ``folder``.

    Returns the number of events when the work ended, None when it was killed. Raises AssertionError with the
    child's traceback when it failed.
    """
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reads)
        _work_and_exit(work, str(folder), kill_at, writes)
    os.close(writes)
    with os.fdopen(reads, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL, (status, said)
        return None
    assert os.WEXITSTATUS(status) == 0, said
    return int(said)


def _work_and_exit(work: Callable[[], Any], folder: str, kill_at: int | None, writes: int) -> None:
    count = 0

    def hook(event: str, given: tuple[Any, ...]) -> None:
        nonlocal count
        if event not in EVENTS or not _changes(event, given) or not _inside(given[0], folder):
            return
        count += 1
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    code = 1
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.dup2(null, 1)
        sys.addaudithook(hook)
        # torch recreates its thread pool after a fork, on first use and without a lock: do so before threads start
        torch.set_num_threads(torch.get_num_threads())
        work()
        os.write(writes, str(count).encode())
        code = 0
    except BaseException:
        os.write(writes, traceback.format_exc().encode()[-4000:])
    finally:
        os._exit(code)


def _changes(event: str, given: tuple[Any, ...]) -> bool:
    if event != "open":
        return True
    flags = given[2]
    return (
        bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)) if isinstance(flags, int) else False
    )


def _inside(path: Any, folder: str) -> bool:
    try:
        text = os.fsdecode(path)
    except TypeError:
        return False
    return text == folder or text.startswith(folder + os.sep)


def chosen(total: int, most: int | None) -> list[int]:
    """Events to be killed at: all, or ``most`` of them at even distances, the first and the last among them."""
    if most is None or most >= total:
        return list(range(1, total + 1))
    return sorted({1 + round(place * (total - 1) / (most - 1)) for place in range(most)})

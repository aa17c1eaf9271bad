"""Work in a forked child that SIGKILL ends as it comes from outside, at a chosen file event or at any moment."""

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


class Child:
    """A forked child that does ``work``; a fork saves the imports of a new process.

    folder, kill_at: the child dies before its ``kill_at``-th change of a file under ``folder``.
    """

    def __init__(
        self, work: Callable[[], Any], folder: Path | None = None, kill_at: int | None = None
    ) -> None:
        reads, writes = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(reads)
            _work_and_exit(work, folder, kill_at, writes)
        os.close(writes)
        self._said = os.fdopen(reads, "rb")

    def kill(self) -> None:
        """Kill the child now."""
        os.kill(self.pid, signal.SIGKILL)

    def runs(self) -> bool:
        """Whether the child has neither ended nor been killed."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def ended(self) -> int | None:
        """The number of file events when the work ended, None when the child was killed.

        Raises AssertionError with the child's traceback when the work failed.
        """
        with self._said as pipe:
            said = pipe.read().decode()
        _, status = os.waitpid(self.pid, 0)
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL, (status, said)
            return None
        assert os.WEXITSTATUS(status) == 0, said
        return int(said)


def run_child(
    work: Callable[[], Any], folder: Path | None = None, *, kill_at: int | None = None
) -> int | None:
    """Do ``work`` in a child and wait for its end; see ``Child``."""
    return Child(work, folder, kill_at).ended()


def _work_and_exit(work: Callable[[], Any], folder: Path | None, kill_at: int | None, writes: int) -> None:
    count = 0

    def hook(event: str, given: tuple[Any, ...]) -> None:
        nonlocal count
        if event not in EVENTS or not _changes(event, given) or not _inside(given[0], str(folder)):
            return
        count += 1
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    code = 1
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.dup2(null, 1)
        if folder is not None:
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
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))


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

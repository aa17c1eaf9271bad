"""Commands that torchrun starts as several processes: one of them speaks to the user, each has a log file."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pairuni.cli.errors import INTERRUPTED
from pairuni.distributed.shares import share_of

if TYPE_CHECKING:
    from pairuni.distributed.world import World

logger = logging.getLogger("pairuni")

_EARLY_LINES = 10_000


class RankLog:
    """The log of one of several processes, kept in memory until ``open`` names its file."""

    def __init__(self, rank: int) -> None:
        self._rank = rank
        self._handler = MemoryHandler(_EARLY_LINES, flushLevel=logging.CRITICAL + 1, flushOnClose=False)
        self._others = list(logger.handlers)
        self._file: logging.FileHandler | None = None

    def attach(self) -> None:
        logger.handlers = [*(self._others if self._rank == 0 else []), self._handler]

    def detach(self) -> None:
        logger.handlers = self._others
        if self._file is not None:
            self._file.close()

    def open(self, folder: Path) -> None:
        """Write what was logged so far, and all that follows, to ``folder``/rank-N.log."""
        folder.mkdir(parents=True, exist_ok=True)
        self._file = logging.FileHandler(folder / f"rank-{self._rank}.log", encoding="utf-8")
        self._file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self._handler.setTarget(self._file)
        self._handler.flush()
        logger.handlers = [*(one for one in logger.handlers if one is not self._handler), self._file]

    def record(self, error: BaseException) -> bool:
        """Write the error with its traceback to the file alone; whether there is one."""
        if self._file is None:
            return False
        trace = (type(error), error, error.__traceback__)
        values = (logger.name, logging.ERROR, __file__, 0, "this rank ended with an error", (), trace)
        self._file.handle(logging.LogRecord(*values))
        return True


@contextmanager
def said_once() -> Iterator[None]:
    """For work before the processes are connected: of each machine, one process says why it fails."""
    try:
        yield
    except (ValueError, OSError):
        if share_of(os.environ).local_rank > 0:
            raise typer.Exit(1) from None
        raise


@contextmanager
def several_ranks(timeout: float) -> Iterator[tuple[World, RankLog | None]]:
    """The processes that torchrun started, and this one's log; no log, and a world of one, without torchrun.

    An error ends all of them, and one of them prints it: rank 0, or another if that is gone.
    """
    from pairuni.distributed.world import World, joined

    share = share_of(os.environ)
    if share.world_size == 1:
        yield World(), None
        return
    log = RankLog(share.rank)
    world = None
    log.attach()
    try:
        with joined(timeout) as world:
            yield world, log
    except BaseException as error:
        recorded = log.record(error)
        # of a machine, one process says why it cannot connect
        speaks = share.local_rank == 0 if world is None else world.speaks
        if speaks or not (recorded or isinstance(error, (ValueError, OSError, RuntimeError, ImportError))):
            raise
        raise typer.Exit(INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1) from None
    finally:
        log.detach()

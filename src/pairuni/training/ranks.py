"""What checkpoints need of the processes of a run: a number each, and an exchange of small values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast

T = TypeVar("T")


class Ranks(Protocol):
    """The processes of a run; every rank makes the same exchanges in the same order, from its main thread."""

    @property
    def rank(self) -> int: ...

    @property
    def world_size(self) -> int: ...

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks, in their order, on every rank."""
        ...


class _One:
    rank = 0
    world_size = 1

    def gather(self, value: Any) -> list[Any]:
        return [value]


ONE_RANK: Ranks = _One()
"""A run of one process."""


def agree(ranks: Ranks, work: Callable[[], T], refused: type[Exception]) -> T:
    """What ``work`` returns on this rank. If it raises ``refused`` on any rank, all ranks raise that error.

    Other exceptions are not caught: they end this rank, and with it the run.
    """
    if ranks.world_size == 1:
        return work()
    value: T | None = None
    error = None
    try:
        value = work()
    except refused as raised:
        error = raised
    for rank, said in enumerate(ranks.gather(None if error is None else str(error))):
        if said is not None:
            raise refused(said if rank == 0 else f"rank {rank}: {said}") from error
    return cast(T, value)

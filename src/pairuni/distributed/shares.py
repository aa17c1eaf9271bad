"""This process's share of work that several processes do together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """One of ``world_size`` processes; ``local_rank`` is its index on its machine."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    def of(self, count: int) -> range:
        """This process's places among ``count``: consecutive, and numbers that differ by at most one."""
        return range(self.rank * count // self.world_size, (self.rank + 1) * count // self.world_size)


def share_of(environment: Mapping[str, str]) -> Share:
    """The share from torchrun's RANK, WORLD_SIZE and LOCAL_RANK; without them, all of the work. Raises ValueError."""
    try:
        rank, world_size = int(environment.get("RANK", "0")), int(environment.get("WORLD_SIZE", "1"))
        local_rank = int(environment.get("LOCAL_RANK", "0"))
    except ValueError:
        raise ValueError("RANK, WORLD_SIZE and LOCAL_RANK must be integers, as torchrun sets them") from None
    if not 0 <= rank < world_size or local_rank < 0:
        raise ValueError(f"RANK is {rank} and WORLD_SIZE {world_size}: the rank must be from 0 to one less")
    return Share(rank, world_size, local_rank)


def cut(places: range, size: int) -> list[range]:
    """Consecutive places, cut wherever a batch of ``size`` places begins."""
    parts = []
    start = places.start
    while start < places.stop:
        stop = min(places.stop, (start // size + 1) * size)
        parts.append(range(start, stop))
        start = stop
    return parts


def shards_of(world_size: int, shard_size: int | None) -> int:
    """The number of processes that hold one copy of the training state; None is all of them.

    Raises ValueError unless it divides their number.
    """
    size = shard_size or world_size
    if world_size % size:
        raise ValueError(
            f"distributed.shard_size is {size}, but must divide the number of processes, {world_size}"
        )
    return size


def refuse_several(environment: Mapping[str, str], command: str) -> None:
    """Raise ValueError if torchrun started several processes of a command that runs as one process."""
    share = share_of(environment)
    if share.world_size > 1:
        raise ValueError(
            f"pairuni {command} runs as one process, but WORLD_SIZE says that {share.world_size} were started, and "
            "each would do all of the work; start it once, without torchrun"
        )

"""The processes of a run that torchrun started, and what they tell each other.

Everything small (lengths, rewards, statistics, stop requests) is gathered over gloo, on the CPU. Waiting happens in
Python, so that signals, a failure of another rank and the timeout end it. Gradients use the default process group,
NCCL on GPUs, and only after a gather has shown that every rank has come.
"""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from pairuni.distributed.shares import Share, share_of
from pairuni.distributed.watch import LostRanks, OtherRankFailed, Watch

T = TypeVar("T")

_MARGIN = 60.0
"""Seconds that torch's own timeouts are longer than ours, which name the ranks."""
_LOOK = 0.2
"""Seconds between looks at whether another rank has failed."""
_MAX_BUCKET = 1 << 25
"""Elements of the largest buffer in which tensors are summed."""


class World:
    """The processes of a run; without arguments, a run of one process, for which every exchange is trivial.

    Every rank makes the same exchanges in the same order. Each of them raises LostRanks when a rank does not come in
    time, OtherRankFailed when one has failed, and KeyboardInterrupt when one was stopped at once.
    """

    def __init__(self, share: Share | None = None, link: _Link | None = None) -> None:
        self.share = share or Share()
        self._link = link
        assert (link is not None) == (self.share.world_size > 1)

    @property
    def rank(self) -> int:
        return self.share.rank

    @property
    def world_size(self) -> int:
        return self.share.world_size

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which writes the run's files."""
        return self.share.rank == 0

    @property
    def several(self) -> bool:
        return self.share.world_size > 1

    @property
    def waited(self) -> float:
        """Seconds that this rank has spent in exchanges."""
        return 0.0 if self._link is None else self._link.waited

    def enter(self, phase: str, *, joint: bool = False) -> None:
        """Note what this rank is doing, such as "step 12, rollout"; others see it when they miss this rank.

        joint: it includes exchanges inside torch, as those of sharded weights, which Python cannot end. If it takes
        longer than the timeout, the process says which ranks are behind, and exits at once.
        """
        if self._link is not None:
            self._link.watch.enter(phase, self._link.timeout if joint else None)

    def gather(self, value: T) -> list[T]:
        """The values of all ranks, in their order; tensors must be on the CPU."""
        return [value] if self._link is None else self._link.gather(value)

    def broadcast(self, value: T) -> T:
        """Rank 0's value."""
        return self.gather(value)[0]

    def on_main(self, work: Callable[[], T]) -> T:
        """What ``work`` returns on rank 0, which alone does it while the others wait."""
        if self._link is None:
            return work()
        result = work() if self.is_main else None
        with self._link.watch.patience():
            return self._link.gather(result)[0]

    def largest(self, value: int) -> int:
        return max(self.gather(value))

    def any(self, flag: bool) -> bool:
        return any(self.gather(flag))

    def barrier(self) -> None:
        self.gather(None)

    def sum_tensors(self, tensors: list[Tensor]) -> None:
        """Add up each of ``tensors`` over all ranks, in place. All ranks give the same shapes in the same order."""
        if self._link is None:
            return
        for bucket in _buckets(tensors):
            if len(bucket) == 1 and bucket[0].is_contiguous():
                self._link.all_reduce(bucket[0])
                continue
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            self._link.all_reduce(flat)
            sums = flat.split([tensor.numel() for tensor in bucket])
            for tensor, values in zip(bucket, sums, strict=True):
                tensor.copy_(values.view_as(tensor))

    @property
    def speaks(self) -> bool:
        """Whether this rank tells the user why the run failed: rank 0, or one that outlives it."""
        return self.is_main or (self._link is not None and self._link.watch.speaks)

    def failed(self, error: BaseException) -> None:
        """Tell the other ranks that this one ends with ``error``, unless it ends because of one of them."""
        if self._link is not None:
            self._link.watch.fail(error)


class _Link:
    """The connections of a process to the others."""

    def __init__(self, share: Share, timeout: float) -> None:
        limit = timedelta(seconds=timeout + _MARGIN)
        self.share = share
        self.waited = 0.0
        self.timeout = timeout
        cuda = torch.cuda.is_available()
        if cuda:
            _choose_gpu(share)
        attempt = _attempt(share)
        store, _, _ = next(dist.rendezvous("env://", share.rank, share.world_size, timeout=limit))
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo",
            store=dist.PrefixStore(f"torch-{attempt}", store),
            rank=share.rank,
            world_size=share.world_size,
            timeout=limit,
        )
        # our own waits end earlier, and not at all while rank 0 writes files
        self._group = dist.new_group(backend="gloo", timeout=timedelta(days=365))
        self.watch = Watch(dist.PrefixStore(f"pairuni-{attempt}", store), share)
        self.watch.start()

    def gather(self, value: Any) -> list[Any]:
        payload = bytearray(pickle.dumps(value))
        self.watch.arrivals += 1
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.share.world_size)]
        self._wait(self._gathering(sizes, torch.tensor([len(payload)])))
        longest = max(int(size) for size in sizes)
        own = torch.zeros(longest, dtype=torch.uint8)
        own[: len(payload)] = torch.frombuffer(payload, dtype=torch.uint8)
        parts = [torch.empty(longest, dtype=torch.uint8) for _ in sizes]
        self._wait(self._gathering(parts, own))
        # from our own processes alone
        return [
            pickle.loads(part[: int(size)].numpy().tobytes()) for part, size in zip(parts, sizes, strict=True)
        ]

    def all_reduce(self, tensor: Tensor) -> None:
        work = dist.all_reduce(tensor, async_op=True)
        assert work is not None
        if tensor.device.type == "cpu":
            self._wait(work)
        else:
            work.wait()  # orders streams; the host goes on

    def _gathering(self, parts: list[Tensor], own: Tensor) -> dist.Work:
        work = dist.all_gather(parts, own, group=self._group, async_op=True)
        assert work is not None
        return work

    def _wait(self, work: dist.Work) -> None:
        began = looked = time.monotonic()
        pause = 1e-5
        while not work.is_completed():
            now = time.monotonic()
            if now - looked > _LOOK:
                looked = now
                self.watch.raise_failure()
                if now - began > self.timeout and not self.watch.patient:
                    raise LostRanks(self.watch.missing(self.timeout))
            time.sleep(pause)
            pause = min(1.5 * pause, 0.002)
        self.waited += time.monotonic() - began
        try:
            work.wait()
        except RuntimeError as error:
            # a rank that failed says so before it closes its connections
            self.watch.raise_failure()
            raise LostRanks(self.watch.gone()) from error

    def close(self, *, orderly: bool) -> None:
        """Leave; after a failure, ranks wait until rank 0 has saved the run, for torchrun ends all when one ends."""
        self.watch.leave(orderly=orderly)
        if not orderly:
            with suppress(Exception):
                dist.distributed_c10d._abort_process_group()
            return
        dist.destroy_process_group()


@contextmanager
def joined(timeout: float) -> Iterator[World]:
    """The world of the processes that torchrun started, connected until the block ends; else that of one process.

    timeout: seconds that ranks wait for each other. An exception that leaves the block ends all ranks: the others
    learn of it at their next exchange, and stay until rank 0 has left the block. Raises ValueError for a wrong
    environment.
    """
    share = share_of(os.environ)
    if share.world_size == 1:
        yield World()
        return
    link = _Link(share, timeout)
    world = World(share, link)
    orderly = False
    try:
        yield world
        orderly = True
    except BaseException as error:
        world.failed(error)
        raise
    finally:
        link.close(orderly=orderly)


def added(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Sums by name, in the order of the rows; a row may lack names."""
    sums: dict[str, float] = {}
    for row in rows:
        for name, value in row.items():
            sums[name] = sums[name] + value if name in sums else value
    return sums


def _attempt(share: Share) -> str:
    """Separates the keys of a run that torchrun restarted from those of its earlier attempts.

    On one machine torchrun may keep its store. Over several, its agents count restarts differently, but make a new
    store for each.
    """
    one_machine = os.environ.get("LOCAL_WORLD_SIZE") == str(share.world_size)
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") if one_machine else "0"


def _choose_gpu(share: Share) -> None:
    count = torch.cuda.device_count()
    if share.local_rank >= count:
        raise ValueError(
            f"LOCAL_RANK is {share.local_rank}, but torch sees {count} GPUs on this machine; start as many processes "
            "as there are GPUs with --nproc-per-node"
        )
    torch.cuda.set_device(share.local_rank)


def _buckets(tensors: list[Tensor]) -> Iterator[list[Tensor]]:
    """Consecutive tensors of one dtype and device, as many as fit into a buffer."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        other = bucket and (tensor.dtype, tensor.device) != (bucket[0].dtype, bucket[0].device)
        if other or (bucket and sum(one.numel() for one in bucket) + tensor.numel() > _MAX_BUCKET):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


__all__ = ["LostRanks", "OtherRankFailed", "World", "added", "joined"]

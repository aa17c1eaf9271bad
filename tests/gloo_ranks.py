"""Several processes that exchange tensors over gloo, forked from the test, so that nothing is imported again."""

from __future__ import annotations

import os
import pickle
import shutil
import tempfile
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.distributed.fsdp
import torch.distributed.tensor

T = TypeVar("T")


class Ranks:
    """The processes of the default group, as a checkpoint sees them."""

    @property
    def rank(self) -> int:
        return dist.get_rank()

    @property
    def world_size(self) -> int:
        return dist.get_world_size()

    def gather(self, value: Any) -> list[Any]:
        found: list[Any] = [None] * self.world_size
        dist.all_gather_object(found, value)
        return found


def start_ranks(count: int, work: Callable[[Ranks], Any]) -> list[tuple[int, int]]:
    """Fork ``count`` processes that do ``work``; (process id, end of a pipe for the outcome) of each."""
    folder = tempfile.mkdtemp()
    started = []
    for rank in range(count):
        reads, writes = os.pipe()
        if (child := os.fork()) == 0:
            os.close(reads)
            _work_and_exit(work, folder, rank, count, writes)
        os.close(writes)
        started.append((child, reads))
    return started


def run_ranks(count: int, work: Callable[[Ranks], T]) -> list[T]:
    """What ``work`` returns in each of ``count`` processes. Raises AssertionError with the traceback of a failure."""
    outcomes = []
    for child, reads in start_ranks(count, work):
        with os.fdopen(reads, "rb") as pipe:
            said = pipe.read()
        os.waitpid(child, 0)
        outcomes.append(pickle.loads(said))
    failed = [said for worked, said in outcomes if not worked]
    assert not failed, "\n".join(failed)
    return [value for _, value in outcomes]


def _work_and_exit(work: Callable[[Ranks], Any], folder: str, rank: int, count: int, writes: int) -> None:
    # torch recreates its thread pool after a fork, on first use and without a lock: do so before threads start
    torch.set_num_threads(1)
    try:
        dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=count)
        outcome = (True, work(Ranks()))
        dist.barrier()
        if rank == 0:
            shutil.rmtree(folder, ignore_errors=True)
    except BaseException:
        outcome = (False, traceback.format_exc()[-4000:])
    try:
        with os.fdopen(writes, "wb") as pipe:
            pipe.write(pickle.dumps(outcome))
    finally:
        os._exit(0)

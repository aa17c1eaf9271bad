"""Checkpoints written in the background, while training goes on."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor

from pairuni.io.files import atomic_folder, write_text
from pairuni.training.checkpoint import (
    Checkpoint,
    CheckpointError,
    check_visible,
    delete_old,
    folder_of,
    one_sentence,
    step_of,
    write_state,
    write_tensors,
)
from pairuni.training.ranks import ONE_RANK, Ranks, agree
from pairuni.training.shards import Group

logger = logging.getLogger("pairuni")

T = TypeVar("T")

_LOOK = 0.05
"""Seconds between looks at whether the other ranks have written their rows."""
_PATIENCE = 5.0
"""Least seconds to wait for their rows after one of them has failed."""


def nothing() -> None:
    """Do nothing."""


class CheckpointSaver:
    """Writes checkpoints under ``root``, one at a time, each from a copy of the tensors.

    before, after: called on rank 0 before anything is written and when a checkpoint is complete, in the thread that
    does this. If all tensors are whole, rank 0 writes alone and the other ranks do nothing. If some are sharded, every
    rank writes its rows and makes the same calls, ``poll`` once a step; in them the ranks tell each other of failures.
    """

    def __init__(
        self,
        root: Path,
        *,
        ranks: Ranks = ONE_RANK,
        before: Callable[[], None] = nothing,
        after: Callable[[], None] = nothing,
    ) -> None:
        self.root = root
        self.begun = 0
        """The step of the last checkpoint that ``begin`` was given."""
        self.saved = 0
        """The step of the last checkpoint that is complete on disk."""
        self._ranks = ranks
        self._before = before
        self._after = after
        self._copies = _Copies()
        self._writing: _Whole | _Sharded | None = None

    def begin(self, checkpoint: Checkpoint, *, wait: bool = False) -> None:
        """Copy the tensors and begin to write them; waits first until the previous checkpoint is complete.

        wait: write at once, without a copy. Raises CheckpointError if the previous checkpoint could not be written,
        with ``wait`` also for this one; the same error on every rank that writes.
        """
        self.finish()
        ranks = self._ranks
        target = folder_of(self.root, checkpoint.step)
        groups = {name: Group.of(tensors, ranks.rank) for name, tensors in checkpoint.tensors.items()}
        sharded = any(group.sharded for group in groups.values())
        self.begun = checkpoint.step
        if ranks.rank and not sharded:
            self.saved = checkpoint.step
            return
        if not wait:
            copies = self._copies.of(groups)
            wait = copies is None if not sharded else any(ranks.gather(copies is None))
            groups = copies or groups
        kind: type[_Whole] | type[_Sharded] = _Sharded if sharded else _Whole
        self._writing = kind(_Job(target, checkpoint, groups, ranks, self._before, self._complete))
        if wait:
            self.finish()

    def poll(self) -> None:
        """Call once a step, on all ranks: note that a checkpoint is complete. Raises CheckpointError if it failed."""
        if self._writing is not None and self._writing.done():
            self.finish()

    def finish(self) -> None:
        """Wait until the checkpoint that was begun is complete. Raises CheckpointError if it could not be written."""
        writing = self._writing
        if writing is None:
            return
        writing.wait()  # may be interrupted by a signal, and is then called again
        self._writing = None
        writing.finish()

    def join(self) -> None:
        """Wait until this rank has written its part, without an exchange."""
        if self._writing is not None:
            self._writing.wait()

    def give_up(self) -> None:
        """Another rank has failed: complete the checkpoint if all ranks have written it, without an exchange."""
        if self._writing is not None:
            self._writing.give_up()

    def _complete(self, folder: Path) -> None:
        """Called on every rank that writes once ``folder`` is complete."""
        self.saved = step_of(folder)
        if self._ranks.rank == 0:
            self._after()


def save_checkpoint(root: Path, checkpoint: Checkpoint, *, keep: int, ranks: Ranks = ONE_RANK) -> Path:
    """Write ``root/step-<step>``, then delete all but the newest ``keep`` checkpoints.

    Raises CheckpointError, the same on every rank that writes, if the disk is full or not writable; no incomplete
    checkpoint remains.
    """
    saver = CheckpointSaver(root, ranks=ranks, after=lambda: delete_old(root, keep=keep))
    saver.begin(checkpoint, wait=True)
    return folder_of(root, checkpoint.step)


@dataclass(frozen=True)
class _Job:
    """A checkpoint to write. groups: what this rank writes. before, complete: see ``CheckpointSaver``."""

    target: Path
    checkpoint: Checkpoint
    groups: Mapping[str, Group]
    ranks: Ranks
    before: Callable[[], None]
    complete: Callable[[Path], None]


class _Whole:
    """Rank 0 writes everything, without the others."""

    def __init__(self, job: _Job) -> None:
        def write() -> None:
            with one_sentence(job.target):
                job.before()
                with atomic_folder(job.target) as partial:
                    write_state(partial, job.checkpoint, write_tensors(partial, job.groups))
            job.complete(job.target)

        self._thread = _Background(write)

    def done(self) -> bool:
        return self._thread.done

    def wait(self) -> None:
        self._thread.wait()

    def give_up(self) -> None:
        self._thread.wait()

    def finish(self) -> None:
        self._thread.result()


class _Sharded:
    """Every rank writes its rows into a folder that rank 0 makes and completes.

    A thread makes no exchange. It tells rank 0 by a file in the folder that its rank is done, so that a checkpoint is
    complete even if a rank fails in the next step. Failures are exchanged in ``finish``.
    """

    def __init__(self, job: _Job) -> None:
        self._job = job
        self._ranks = ranks = job.ranks
        target = job.target
        self._given_up = threading.Event()
        self._sums: dict[int, dict[str, str]] = {}
        self._made = ExitStack()  # on rank 0, removes the folder unless it is complete

        def make() -> Path | None:
            with one_sentence(target):
                return self._made.enter_context(atomic_folder(target)) if ranks.rank == 0 else None

        self._partial: Path = ranks.gather(agree(ranks, make, CheckpointError))[0]
        with self._made.pop_all() as made:
            agree(ranks, lambda: check_visible(self._partial), CheckpointError)
            self._made = made.pop_all()

        def write() -> dict[str, str]:
            with one_sentence(target):
                if ranks.rank == 0:
                    job.before()
                sums = write_tensors(self._partial, job.groups, ranks.rank, ranks.world_size)
                if ranks.rank:
                    write_text(self._note(ranks.rank), json.dumps(sums))
                return sums

        self._writing = _Background(write)
        self._completing = _Background(self._complete_folder) if ranks.rank == 0 else None

    def done(self) -> bool:
        return all(self._ranks.gather(self._writing.done))

    def wait(self) -> None:
        self._writing.wait()

    def finish(self) -> None:
        ranks = self._ranks
        try:
            sums = ranks.gather(agree(ranks, self._writing.result, CheckpointError))
            self._sums = dict(enumerate(sums))
            agree(ranks, self._completing.result if self._completing else nothing, CheckpointError)
        except BaseException:
            self._stop()
            raise
        if ranks.rank:
            self._job.complete(self._job.target)

    def give_up(self) -> None:
        """Complete the checkpoint if the other ranks finish about as soon as this one did; without an exchange."""
        self._writing.wait()
        if self._completing is not None:
            self._completing.wait(max(_PATIENCE, self._writing.seconds))
        self._stop()

    def _stop(self) -> None:
        self._given_up.set()
        if self._completing is not None:
            self._completing.wait()

    def _complete_folder(self) -> None:
        target = self._job.target
        with one_sentence(target), self._made:
            own = self._writing.result()
            while len(self._sums) < self._ranks.world_size:
                # the interpreter waits for this thread when it exits
                if self._given_up.wait(_LOOK) or not threading.main_thread().is_alive():
                    raise CheckpointError(f"{target} is not complete: another process did not write it")
                notes = {rank: self._note(rank) for rank in range(1, self._ranks.world_size)}
                if all(note.exists() for note in notes.values()):
                    self._sums = {0: own} | {
                        rank: json.loads(note.read_text()) for rank, note in notes.items()
                    }
            for rank in self._sums:
                self._note(rank).unlink(missing_ok=True)
            sums = {file: value for each in self._sums.values() for file, value in each.items()}
            write_state(self._partial, self._job.checkpoint, sums)
            self._made.close()
        self._job.complete(target)

    def _note(self, rank: int) -> Path:
        return self._partial / f".done-{rank}.json"


class _Background(Generic[T]):
    """Work in a thread, begun at once; an interpreter that exits waits for it."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._value: list[T] = []
        self._error: BaseException | None = None
        self.seconds = 0.0
        """Time that the work took."""
        self._thread = threading.Thread(target=self._run, name="checkpoint")
        self._thread.start()

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def wait(self, timeout: float | None = None) -> None:
        self._thread.join(timeout)

    def result(self) -> T:
        """What the work returned, once it has; raises what it raised."""
        self.wait()
        if self._error is not None:
            raise self._error
        return self._value[0]

    def _run(self) -> None:
        began = time.monotonic()
        try:
            self._value.append(self._work())
        except BaseException as error:
            self._error = error
        self.seconds = time.monotonic() - began


class _Copies:
    """Copies of tensors on the CPU; those of CUDA tensors are in pinned memory, which the next copies use again."""

    def __init__(self) -> None:
        self._pinned: dict[tuple[str, str], Tensor] = {}

    def of(self, groups: Mapping[str, Group]) -> dict[str, Group] | None:
        """Copies of all tensors of ``groups``; None if there is no memory for them."""
        try:
            copies = {
                group: Group(
                    {
                        name: (self._copy((group, name), tensor), rows)
                        for name, (tensor, rows) in each.tensors.items()
                    },
                    each.sharded,
                )
                for group, each in groups.items()
            }
        except (RuntimeError, MemoryError) as error:
            logger.warning(
                "there is no memory for a copy of the training state, so training waits for its checkpoints: %s",
                str(error).partition("\n")[0],
            )
            self._pinned.clear()
            return None
        if self._pinned:
            torch.cuda.synchronize()
        return copies

    def _copy(self, name: tuple[str, str], tensor: Tensor) -> Tensor:
        if tensor.device.type != "cuda":
            return tensor.detach().to("cpu", copy=True)
        buffer = self._pinned.get(name)
        if buffer is None or (buffer.shape, buffer.dtype) != (tensor.shape, tensor.dtype):
            buffer = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._pinned[name] = buffer
        return buffer.copy_(tensor.detach(), non_blocking=True)

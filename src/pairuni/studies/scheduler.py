"""Runs the parts of a study in processes side by side, each on its share of the cores or on a GPU of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

LOG = "log.txt"
_POLL = 0.5
_GRACE = 60.0
"""Seconds that an interrupted run has to save its checkpoint."""


@dataclass(frozen=True)
class Part:
    """One unit of work: commands that are run in order, with their output in ``folder``/log.txt.

    done: the file that exists once the work is complete. needs: files without which it cannot start.
    """

    name: str
    folder: Path
    commands: Sequence[Sequence[str]]
    done: Path
    needs: Sequence[Path] = ()

    @property
    def log(self) -> Path:
        return self.folder / LOG


class PartFailed(RuntimeError):
    """Parts of a study failed; the message names each with the last line of its log."""


@dataclass(frozen=True)
class Slot:
    """Where one process runs: environment variables that select its cores or its GPU."""

    environment: Mapping[str, str]


def slots(jobs: int | None, *, gpus: int, cores: int) -> list[Slot]:
    """``jobs`` places for processes; by default one per GPU, or one per core on a machine without GPUs."""
    count = jobs or gpus or cores
    threads = str(max(1, cores // count))
    shared = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false"}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    found = []
    for number in range(count):
        own = dict(shared)
        if gpus:
            place = number % gpus
            own["CUDA_VISIBLE_DEVICES"] = (
                visible[place] if len(visible) == gpus and visible[0] else str(place)
            )
        found.append(Slot(own))
    return found


def machine() -> tuple[int, int]:
    """Numbers of GPUs and of cores that this process may use."""
    import torch

    return torch.cuda.device_count(), len(os.sched_getaffinity(0))


@dataclass
class _Running:
    part: Part
    slot: Slot
    commands: list[Sequence[str]]
    process: subprocess.Popen[bytes]


@dataclass
class Scheduler:
    """Runs parts as their needs come to exist, at most one in each slot.

    finished: called in this process with each part that is complete. polled: called between polls with the parts
    that run now. A failed part does not stop the others; ``run`` then raises PartFailed at the end. On Ctrl-C or
    SIGTERM, the processes save their work before KeyboardInterrupt is raised.
    """

    slots: Sequence[Slot]
    finished: Callable[[Part], None]
    polled: Callable[[Sequence[Part]], None] = lambda parts: None
    _running: list[_Running] = field(default_factory=list)

    def run(self, parts: Iterable[Part]) -> None:
        waiting = [part for part in parts if not part.done.exists()]
        failed: list[Part] = []
        previous = signal.signal(signal.SIGTERM, _interrupt)
        try:
            while waiting or self._running:
                self._start(waiting)
                time.sleep(_POLL)
                failed += self._collect()
                self.polled([one.part for one in self._running])
                if not self._running and not any(_ready(part) for part in waiting):
                    break
        finally:
            self._stop()
            signal.signal(signal.SIGTERM, previous)
        if failed:
            raise PartFailed(
                "\n".join(f"{part.name} failed: {_last_line(part.log)} ({part.log})" for part in failed)
            )
        assert not waiting, f"nothing makes what {waiting[0].name} needs"

    def _start(self, waiting: list[Part]) -> None:
        free = [slot for slot in self.slots if all(one.slot is not slot for one in self._running)]
        for slot in free:
            part = next((part for part in waiting if _ready(part)), None)
            if part is None:
                return
            waiting.remove(part)
            part.folder.mkdir(parents=True, exist_ok=True)
            part.log.unlink(missing_ok=True)
            commands = list(part.commands)
            self._running.append(_Running(part, slot, commands[1:], _spawn(commands[0], part, slot)))

    def _collect(self) -> list[Part]:
        """Reap processes that ended; returns the parts that failed."""
        failed = []
        for one in list(self._running):
            code = one.process.poll()
            if code is None:
                continue
            if code == 0 and one.commands:
                one.process = _spawn(one.commands.pop(0), one.part, one.slot)
                continue
            self._running.remove(one)
            if code == 0 and one.part.done.exists():
                self.finished(one.part)
            else:
                failed.append(one.part)
        return failed

    def _stop(self) -> None:
        for one in self._running:
            one.process.terminate()
        deadline = time.monotonic() + _GRACE
        for one in self._running:
            try:
                one.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                one.process.kill()
                one.process.wait()
        self._running.clear()


def python(*arguments: str) -> list[str]:
    """A command of this Python."""
    return [sys.executable, "-m", *arguments]


def _spawn(command: Sequence[str], part: Part, slot: Slot) -> subprocess.Popen[bytes]:
    # a session of its own: Ctrl-C reaches it once, as SIGTERM from us
    with part.log.open("ab") as log:
        return subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **slot.environment},
            start_new_session=True,
        )


def _ready(part: Part) -> bool:
    return all(path.exists() for path in part.needs)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1].removeprefix("error: ") if lines else "it wrote nothing"

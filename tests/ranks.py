"""Runs a function in several processes that are connected as torchrun would connect them."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from pairuni.distributed.world import World, joined

_PRELOADED = [
    *("pairuni.pairgrpo.trainer", "pairuni.pairgrpo.held_out", "torch._dynamo", "torch.distributed.fsdp"),
    *("pytest", "ranks", "fake_policy", "pair_batches"),
]
_PATIENCE = 200.0


@dataclass
class Outcome:
    """What became of a rank. code: its exit code; error: the name of its exception; log: lines of the logger."""

    code: int | None = None
    value: Any = None
    error: str = ""
    said: str = ""
    trace: str = ""
    log: list[str] = field(default_factory=list)
    seconds: float = 0.0


def run_ranks(
    count: int,
    folder: Path,
    work: Callable[..., Any],
    *args: Any,
    timeout: float | None = 60.0,
    grace: float = 30.0,
) -> list[Outcome]:
    """The outcome of ``work(world, *args)`` on each rank; ``work`` is a function of a module.

    timeout: seconds that ranks wait for each other; None leaves it to ``work(*args)`` to connect them.

    The store lives in this process, as under torchrun, so it outlives any rank. A rank that still runs ``grace``
    seconds after another has ended is killed, as torchrun does.
    """
    context = _fork_server()
    store = dist.TCPStore(
        "127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=60)
    )
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    processes = []
    for rank in range(count):
        environment = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(count),
        }
        target = folder / f"outcome-{rank}.pickle"
        process = context.Process(target=_rank, args=(environment, target, timeout, work, args))
        process.start()
        processes.append(process)
    deadline = began + _PATIENCE
    while any(process.exitcode is None for process in processes):
        time.sleep(0.05)
        if any(process.exitcode is not None for process in processes):
            deadline = min(deadline, time.monotonic() + grace)
        if time.monotonic() > deadline:
            for process in processes:
                process.kill()
    outcomes = []
    for rank, process in enumerate(processes):
        process.join()
        file = folder / f"outcome-{rank}.pickle"
        outcome = pickle.loads(file.read_bytes()) if file.exists() else Outcome()
        outcome.code = process.exitcode
        outcomes.append(outcome)
    return outcomes


def values_of(outcomes: list[Outcome]) -> list[Any]:
    """The values of ranks that all ended well."""
    for outcome in outcomes:
        assert outcome.code == 0, outcome.trace
        assert not outcome.error, outcome.trace
    return [outcome.value for outcome in outcomes]


def _fork_server() -> Any:
    """A server that has imported torch, so that a rank starts in a moment."""
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context


def _rank(
    environment: dict[str, str],
    target: Path,
    timeout: float | None,
    work: Callable[..., Any],
    args: tuple[Any, ...],
) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    outcome = Outcome()
    logger = logging.getLogger("pairuni")
    logger.setLevel(logging.INFO)
    logger.addHandler(_Lines(outcome.log))
    began = time.monotonic()
    try:
        if timeout is None:
            outcome.value = work(*args)
        else:
            with joined(timeout) as world:
                outcome.value = work(world, *args)
    except BaseException as error:
        outcome.error, outcome.said = type(error).__name__, str(error)
        outcome.trace = traceback.format_exc()
    outcome.seconds = time.monotonic() - began
    partial = target.with_suffix(".partial")
    partial.write_bytes(pickle.dumps(outcome))
    partial.rename(target)
    os._exit(0)


class _Lines(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(record.getMessage())


__all__ = ["Outcome", "World", "run_ranks", "values_of"]

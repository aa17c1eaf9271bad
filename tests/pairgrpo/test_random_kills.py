"""Runs killed at random moments and resumed, with a checkpoint after every step; one process and two."""

from __future__ import annotations

import os
import random
import signal
import socket
import time
from pathlib import Path

import pytest
import torch
from test_trainer import rows, same_run, trainer

from pair_batches import run_settings
from pairuni.config import RunSettings
from pairuni.distributed.strategy import Replicate
from pairuni.distributed.world import joined


def start(folder: Path, out: Path, steps: int, ranks: int) -> list[int]:
    """Processes that resume the run, or begin it; their ids."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(ranks):
        if (child := os.fork()) == 0:
            os.environ |= {"RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "WORLD_SIZE": f"{ranks}"}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}"}
            _train_and_exit(folder, out, steps)
        children.append(child)
    return children


def _train_and_exit(folder: Path, out: Path, steps: int) -> None:
    code = 1
    try:
        # torch recreates its thread pool after a fork, on first use and without a lock: do so before threads start
        torch.set_num_threads(1)
        with joined(60.0) as world:
            # before rank 0 writes anything, every rank sees the same folder
            begun = world.broadcast((out / "metrics.jsonl").exists() or (out / "checkpoints").exists())
            trainer(folder, out, settings(steps), strategy=Replicate(world)).run(resume=begun)
        code = 0
    finally:
        os._exit(code)


def settings(steps: int) -> RunSettings:
    return run_settings(
        pairgrpo={"steps": steps, "pairs_per_batch": 2, "learning_rate": 0.05, "warmup_steps": 2},
        checkpoint={"every": 1, "keep": 2},
        logging={"samples_every": 7},
    )


def ended(children: list[int]) -> bool:
    """Wait for all; whether all ended well."""
    codes = [os.waitpid(child, 0)[1] for child in children]
    return not any(codes)


@pytest.mark.parametrize(
    ("kills", "ranks"),
    [
        (2, 1),
        (2, 2),
        pytest.param(20, 1, marks=pytest.mark.slow),
        pytest.param(20, 2, marks=pytest.mark.slow),
    ],
)
def test_a_run_killed_again_and_again_is_the_unbroken_one(tmp_path: Path, kills: int, ranks: int) -> None:
    steps = 4 * kills
    began = time.monotonic()
    assert ended(start(tmp_path, tmp_path / "full", steps, ranks))
    seconds = time.monotonic() - began
    out = tmp_path / "cut"
    rng = random.Random(kills)
    for _ in range(kills):
        children = start(tmp_path, out, steps, ranks)
        time.sleep(rng.uniform(0.0, 2 * seconds / kills))
        for child in children:
            os.kill(child, signal.SIGKILL)
        ended(children)
    assert ended(start(tmp_path, out, steps, ranks))
    same_run(tmp_path / "full", out)
    assert [row["step"] for row in rows(out)] == list(range(1, steps + 1))
    kept = sorted(path.name for path in (out / "checkpoints").iterdir())
    assert kept == [f"step-{step:06d}" for step in (steps - 1, steps)]
    assert not list(out.rglob(".*"))

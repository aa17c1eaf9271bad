"""Runs killed at random moments and resumed, with a checkpoint after every step."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from test_trainer import rows, same_run, trainer

from pair_batches import run_settings
from pairuni.config import RunSettings


def start(folder: Path, out: Path, steps: int) -> int:
    """A child that resumes the run, or begins it; its process id."""
    if child := os.fork():
        return child
    try:
        # torch recreates its thread pool after a fork, on first use and without a lock: do so before threads start
        torch.set_num_threads(1)
        resume = (out / "metrics.jsonl").exists() or (out / "checkpoints").exists()
        trainer(folder, out, settings(steps)).run(resume=resume)
        os._exit(0)
    finally:
        os._exit(1)


def settings(steps: int) -> RunSettings:
    return run_settings(
        pairgrpo={"steps": steps, "pairs_per_batch": 2, "learning_rate": 0.05, "warmup_steps": 2},
        checkpoint={"every": 1, "keep": 2},
        logging={"samples_every": 7},
    )


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_a_run_killed_again_and_again_is_the_unbroken_one(tmp_path: Path, kills: int) -> None:
    steps = 4 * kills
    began = time.monotonic()
    assert os.waitpid(start(tmp_path, tmp_path / "full", steps), 0)[1] == 0
    seconds = time.monotonic() - began
    out = tmp_path / "cut"
    rng = random.Random(kills)
    for _ in range(kills):
        child = start(tmp_path, out, steps)
        time.sleep(rng.uniform(0.0, 2 * seconds / kills))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    assert os.waitpid(start(tmp_path, out, steps), 0)[1] == 0
    same_run(tmp_path / "full", out)
    assert [row["step"] for row in rows(out)] == list(range(1, steps + 1))
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == [
        f"step-{steps - 1:06d}",
        f"step-{steps:06d}",
    ]
    assert not [path for path in out.rglob(".*") if path.name != ".pairuni.lock"]

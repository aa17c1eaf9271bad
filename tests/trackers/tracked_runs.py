"""Runs of the fake policy with trackers: killed after a checkpoint, and resumed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fake_policy import FakePolicy
from pair_batches import REWARDS, make_pairs, run_settings
from pairuni.config import RunSettings
from pairuni.pairgrpo.rollout import Rewards
from pairuni.pairgrpo.trainer import Trainer
from pairuni.runs.folder import RunFolder
from pairuni.runs.metrics import MetricsLog
from pairuni.trackers.services import trackers_of
from pairuni.trackers.trackers import Trackers

TIMES = {"step_time", "rollout_time", "update_time", "tokens_per_second"}
STEPS, SAMPLED = 6, (2, 4, 6)


class AtStep:
    """The fake policy's reward of answers, which first acts at one step; each step scores once."""

    name = "at-step"

    def __init__(self, step: int, act: Callable[[], None]) -> None:
        self._left, self._act = step, act

    def __call__(self, records: Any, samples: Any) -> list[float]:
        self._left -= 1
        if self._left == 0:
            self._act()
        return REWARDS.understanding(records, samples)


def settings(*trackers: str) -> RunSettings:
    return run_settings(
        pairgrpo={"steps": STEPS, "pairs_per_batch": 2, "learning_rate": 0.05},
        evaluation={"every": 3},
        logging={"samples_every": 2, "to": list(trackers), "project": "tests"},
    )


def train(
    out: Path,
    chosen: RunSettings,
    *,
    resume: bool = False,
    act: Callable[[], None] | None = None,
    trackers: Trackers | None = None,
    steps: int = STEPS,
) -> None:
    """A run into ``out``; ``act`` is called in the rollout of step 6, after step 5 was logged."""
    pairs = out.parent / "pairs"
    pairs.mkdir(exist_ok=True)
    rewards = REWARDS
    if act is not None:
        rewards = Rewards(understanding=AtStep(STEPS, act), generation=REWARDS.generation)
    with trackers or trackers_of(chosen, RunFolder(out)) as opened:
        Trainer(
            chosen,
            FakePolicy(),
            make_pairs(pairs),
            rewards,
            out,
            image_folder=pairs,
            evaluate=lambda policy, step: {"understanding": step / 8},
            trackers=opened,
        ).run(resume=resume)


def kill_after_checkpoint(out: Path) -> None:
    """SIGKILL once the checkpoint of step 4 is complete: a resumed run repeats step 5."""
    deadline = time.monotonic() + 60
    while not (out / "checkpoints" / "step-000004").is_dir():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)


def logged(out: Path, *, times: bool = True) -> dict[int, dict[str, float]]:
    """metrics.jsonl: step -> values."""
    return {
        row["step"]: {
            name: value for name, value in row.items() if name != "step" and (times or name not in TIMES)
        }
        for row in MetricsLog(out / "metrics.jsonl").rows()
    }

"""`python -m benchmarks checkpoint`: what checkpoints add to the wall time of training."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.settings import CheckpointBenchSettings
from benchmarks.step import Stepper
from benchmarks.timing import interleaved
from benchmarks.workload import build
from pairuni.policies.janus.policy import JanusPolicy
from pairuni.training.checkpoint import Checkpoint, delete_old
from pairuni.training.saver import CheckpointSaver
from pairuni.training.seeding import random_state

OURS = "pairuni"
ADDS = {
    "none": "steps without a checkpoint",
    "waiting": "a checkpoint at the beginning; the first step waits until it is on disk",
    OURS: "the same, copied and written by a thread while the steps run",
}
"""Descriptions of the contenders."""


class Windows:
    """Windows of ``settings.steps`` training steps, which begin with a checkpoint or without one.

    A window ends when its checkpoint is on disk.
    """

    def __init__(self, policy: JanusPolicy, settings: CheckpointBenchSettings) -> None:
        self._steps = settings.steps
        self._stepper = Stepper(policy, settings)
        self._stepper.run(0)  # AdamW has no moments before
        self._folder = tempfile.TemporaryDirectory(dir=settings.folder)  # removed with this object
        root = Path(self._folder.name)
        self._saver = CheckpointSaver(root, after=lambda: delete_old(root, keep=2))
        self.held: dict[str, list[float]] = {name: [] for name in ADDS}
        """Seconds of each window in which training stood still for its checkpoint."""

    def run(self, name: str, turn: int) -> None:
        began = time.perf_counter()
        if name != "none":
            optimizer = self._stepper.optimizer
            tensors = {
                "trained": optimizer.weights(),
                "optimizer": optimizer.state(),
                "random": random_state(),
            }
            self._saver.begin(Checkpoint(step=turn + 1, tensors=tensors, state={}), wait=name == "waiting")
        self.held[name].append(time.perf_counter() - began)
        for _ in range(self._steps):
            self._stepper.run(turn)
            self._saver.poll()
        self._saver.finish()

    @property
    def contenders(self) -> dict[str, Callable[[int], object]]:
        return {name: partial(self.run, name) for name in ADDS}

    @property
    def bytes(self) -> int:
        """Size of a checkpoint."""
        return sum(path.stat().st_size for path in Path(self._folder.name).glob("step-*/*")) // 2


def contenders(policy: JanusPolicy, settings: CheckpointBenchSettings) -> dict[str, Callable[[int], object]]:
    """Windows by name; all share one policy and its optimizer."""
    return Windows(policy, settings).contenders


def measure(settings: CheckpointBenchSettings, memory: dict[str, dict[str, int]]) -> dict[str, Any]:
    """Time windows, which take turns. A checkpoint's cost is what a window takes longer than one without."""
    policy = build(settings)
    windows = Windows(policy, settings)
    timings = interleaved(
        windows.contenders,
        repeats=settings.repeats,
        device=policy.device,
        title="checkpoint",
    )
    step = timings["none"].median / settings.steps
    rows: dict[str, dict[str, Any]] = {}
    for name, timing in timings.items():
        rows[name] = {**timing.to_dict(), **memory[name]}
        if name != "none":
            cost = timing.median - timings["none"].median
            rows[name] |= {
                "held_seconds": statistics.median(windows.held[name][1:]),
                "checkpoint_seconds": cost,
                "interval_share": cost / (cost + settings.every * step),
            }
    return {"step_seconds": step, "checkpoint_bytes": windows.bytes, "contenders": rows}

"""Peak memory of one contender of rollout, update, step or checkpoint, in a separate process.

``python -m benchmarks.memory BENCHMARK CONTENDER SETTINGS`` prints one JSON object; ``peaks`` runs it for each.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import checkpoint, rollout, step, update
from benchmarks.child import run_module
from benchmarks.hardware import peak_memory, start_memory
from benchmarks.settings import (
    CheckpointBenchSettings,
    RolloutBenchSettings,
    StepBenchSettings,
    UpdateBenchSettings,
    WorkloadSettings,
)
from benchmarks.workload import build
from pairuni.policies.janus.policy import JanusPolicy

Contenders = Callable[[JanusPolicy, Any], dict[str, Callable[[int], object]]]
BENCHMARKS: dict[str, tuple[type[WorkloadSettings], Contenders]] = {
    "rollout": (RolloutBenchSettings, rollout.contenders),
    "update": (UpdateBenchSettings, update.contenders),
    "step": (StepBenchSettings, step.contenders),
    "checkpoint": (CheckpointBenchSettings, checkpoint.contenders),
}


def peaks(bench: str, names: Sequence[str], settings: WorkloadSettings) -> dict[str, dict[str, int]]:
    """name -> "peak_bytes", and "start_bytes" with the model loaded and before the work.

    CUDA: bytes that torch held for tensors. CPU: the resident set of the process.
    Raises RuntimeError with the child's last line when it fails.
    """
    words = settings.model_dump_json()
    try:
        return {name: run_module("benchmarks.memory", bench, name, words) for name in names}
    except RuntimeError as error:
        raise RuntimeError(f"{error}; --skip leaves out a baseline") from error


def measure(bench: str, name: str, words: str) -> dict[str, int]:
    """Run one contender and return its peak. words: the settings as JSON.

    A step runs twice: AdamW's moments appear at the end of the first step and exist next to the activations of the
    second.
    """
    settings_class, contenders = BENCHMARKS[bench]
    settings = settings_class.model_validate_json(words)
    policy = build(settings)
    work = contenders(policy, settings)[name]
    start = start_memory(policy.device)
    for turn in range(2 if bench == "step" else 1):
        work(turn)
    return {"start_bytes": start, "peak_bytes": peak_memory(policy.device)}


if __name__ == "__main__":
    print(json.dumps(measure(*sys.argv[1:])))

"""`python -m benchmarks processes`: training steps of one process against two that train together.

Every repeat starts new processes; contenders take turns. ``python -m benchmarks.processes CONTENDER SETTINGS`` prints
the JSON object of one run, ``... rank CONTENDER SETTINGS`` is one of its processes.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from typing import Any

import torch

from benchmarks.child import alternate_modules, run_module
from benchmarks.hardware import resident
from benchmarks.settings import ProcessesBenchSettings
from benchmarks.step import Stepper
from benchmarks.timing import Timing
from benchmarks.workload import build
from pairuni.distributed.strategy import Replicate, Shard
from pairuni.distributed.world import joined

ONE, OURS, SHARD = "one", "pairuni", "shard"
ADDS = {
    ONE: "one process",
    OURS: "two processes that replicate the training state",
    SHARD: "two processes that shard it (FSDP2)",
}
"""Descriptions of the contenders."""

_TIMEOUT = 600.0


def run_rank(name: str, settings: ProcessesBenchSettings) -> None:
    """Train as one of the contender's processes; rank 0 prints the seconds of each step."""
    torch.set_num_threads(1)
    cores = sorted(os.sched_getaffinity(0))
    with joined(_TIMEOUT) as world:
        os.sched_setaffinity(0, {cores[world.rank % len(cores)]})
        start, _ = resident()
        policy = build(settings)
        strategy = Shard(world, "cpu") if name == SHARD else Replicate(world)
        stepper = Stepper(policy, settings, strategy)
        seconds = []
        for step in range(settings.steps):
            world.barrier()
            began = time.perf_counter()
            stepper.run(step)
            world.barrier()
            seconds.append(time.perf_counter() - began)
        _, peak = resident()
        if world.is_main:
            norm = stepper.metrics["grad_norm"]
            row = {"steps": seconds[1:], "start_bytes": start, "peak_bytes": peak, "grad_norm": norm}
            print(json.dumps(row))


def run(name: str, settings: str) -> dict[str, Any]:
    """Start the processes of a contender and wait for their result. Raises RuntimeError if one fails."""
    words = ("rank", name, settings)
    if name == ONE:
        found = run_module("benchmarks.processes", *words)
    else:
        launcher = ("--standalone", "--nproc-per-node", "2", "-m", "benchmarks.processes")
        found = run_module("torch.distributed.run", *launcher, *words)
    return found | {"seconds": statistics.median(found["steps"])}


def measure(settings: ProcessesBenchSettings) -> dict[str, Any]:
    """Seconds of a step for each contender, and the ratios of runs that followed each other.

    Raises ValueError on a machine with one core.
    """
    if len(os.sched_getaffinity(0)) < 2:
        raise ValueError("two processes need a core each, but this machine has one")
    runs = alternate_modules(
        "benchmarks.processes",
        ADDS,
        settings.model_dump_json(),
        settings.repeats,
        lambda found: float(found["seconds"]),
    )
    rows = {}
    for name, found in runs.items():
        timing = Timing(seconds=[one["seconds"] for one in found])
        ratios = [one["seconds"] / two["seconds"] for one, two in zip(runs[ONE], found, strict=True)]
        rows[name] = {
            **timing.to_dict(),
            "pairs_per_second": settings.prompts / timing.median,
            "times_one_process": statistics.median(ratios),
            "times_one_process_all": ratios,
            "start_bytes": max(one["start_bytes"] for one in found),
            "peak_bytes": max(one["peak_bytes"] for one in found),
        }
    norms = [one["grad_norm"] for found in runs.values() for one in found]
    return {"pairs": settings.prompts, "grad_norm_difference": max(norms) - min(norms), "contenders": rows}


def main(words: list[str]) -> None:
    if words[0] == "rank":
        run_rank(words[1], ProcessesBenchSettings.model_validate_json(words[2]))
    else:
        print(json.dumps(run(words[0], words[1])))


if __name__ == "__main__":
    main(sys.argv[1:])

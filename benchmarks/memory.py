"""Peak memory of one contender, in a process of its own: neither an allocator nor the system forgets a peak.

``python -m benchmarks.memory BENCH CONTENDER SETTINGS`` prints one JSON object; ``peaks`` runs it for each.
"""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks import rollout, step, update
from benchmarks.workload import Settings
from pairuni.policies.janus.policy import JanusPolicy

Contenders = Callable[[JanusPolicy, Settings], dict[str, Callable[[int], object]]]
BENCHES: dict[str, Contenders] = {
    "rollout": rollout.contenders,
    "update": update.contenders,
    "step": step.contenders,
}


def peaks(bench: str, names: Sequence[str], settings: Settings) -> dict[str, dict[str, int]]:
    """name -> "peak_bytes", and "start_bytes" with the model loaded and before the work.

    CUDA: bytes that torch held for tensors. CPU: the resident set of the whole process.
    Raises RuntimeError with the child's last line when it fails.
    """
    found = {}
    for name in names:
        child = subprocess.run(
            [sys.executable, "-m", "benchmarks.memory", bench, name, json.dumps(settings.to_dict())],
            capture_output=True,
            text=True,
        )
        if child.returncode:
            said = child.stderr.strip().splitlines() or ["no word"]
            raise RuntimeError(
                f"{name} ended with code {child.returncode} while its memory was measured "
                f"({said[-1]}); baselines can be left out by --skip"
            )
        found[name] = json.loads(child.stdout.splitlines()[-1])
    return found


def resident() -> tuple[int, int]:
    """Bytes that this process holds, and the most that it has held.

    Linux counts both from the start of this program, where ``ru_maxrss`` would begin with the parent's peak.
    Elsewhere the peak stands for both.
    """
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        now, most = (int(re.findall(rf"^{key}:\s+(\d+) kB$", status, re.M)[0]) for key in ("VmRSS", "VmHWM"))
        return 1024 * now, 1024 * most
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (most, most) if sys.platform == "darwin" else (1024 * most, 1024 * most)


def measure(bench: str, name: str, settings: Settings) -> dict[str, int]:
    """Run one contender and say what it held at most.

    A step runs twice: AdamW's moments appear at the end of the first and lie beside the activations of the next.
    """
    turns = 2 if bench == "step" else 1
    policy = settings.policy()
    work = BENCHES[bench](policy, settings)[name]
    if policy.device.type != "cuda":
        start, _ = resident()
        for turn in range(turns):
            work(turn)
        return {"start_bytes": start, "peak_bytes": resident()[1]}
    torch.cuda.reset_peak_memory_stats(policy.device)
    start = torch.cuda.memory_allocated(policy.device)
    for turn in range(turns):
        work(turn)
    torch.cuda.synchronize(policy.device)
    return {"start_bytes": start, "peak_bytes": torch.cuda.max_memory_allocated(policy.device)}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], sys.argv[2], Settings.from_dict(json.loads(sys.argv[3])))))

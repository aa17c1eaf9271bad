"""The machine: its names, copy bandwidth and matrix rate measured in the same run, memory of this process."""

from __future__ import annotations

import os
import platform
import re
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

COPY_BYTES = {"cpu": 256 << 20, "cuda": 1 << 30}
MATRIX_SIZE = {"cpu": 1536, "cuda": 8192}
TRIES = {"cpu": 5, "cuda": 20}


def synchronise(device: torch.device) -> None:
    """Wait until all work queued on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def copy_bandwidth(device: torch.device) -> float:
    """Bytes per second of a large copy, counting read and write, best of several.

    A model smaller than the processor's cache may move its bytes faster than this.
    """
    source = torch.ones(COPY_BYTES[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / _best(lambda: target.copy_(source), device)


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of a large square matrix product, best of several."""
    size = MATRIX_SIZE[device.type]
    left = torch.randn(size, size, device=device, dtype=torch.float32).to(dtype)
    right = torch.randn(size, size, device=device, dtype=torch.float32).to(dtype)
    out = torch.empty_like(left)
    return 2 * size**3 / _best(lambda: torch.mm(left, right, out=out), device)


def _best(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest of several calls, after one warm-up."""
    seconds = []
    for _ in range(TRIES[device.type] + 1):
        synchronise(device)
        began = time.perf_counter()
        work()
        synchronise(device)
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:])


def resident() -> tuple[int, int]:
    """Bytes that this process holds, and the most that it has held.

    Linux counts both from the start of this program, where ``ru_maxrss`` would start at the parent's peak.
    Elsewhere the peak stands for both.
    """
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        now, most = (int(re.findall(rf"^{key}:\s+(\d+) kB$", status, re.M)[0]) for key in ("VmRSS", "VmHWM"))
        return 1024 * now, 1024 * most
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (most, most) if sys.platform == "darwin" else (1024 * most, 1024 * most)


def start_memory(device: torch.device) -> int:
    """Bytes in use now; on CUDA the peak is counted from here on."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    return resident()[0]


def peak_memory(device: torch.device) -> int:
    """The most bytes in use since ``start_memory`` (CUDA) or since the start of the process (CPU)."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device)
    return resident()[1]


def hardware(device: torch.device) -> dict[str, str | int]:
    """Names and sizes of the hardware that a result depends on."""
    found: dict[str, str | int] = {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "device": device.type,
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {"gpu": properties.name, "gpu_memory": properties.total_memory}
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()

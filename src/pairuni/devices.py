"""Where a model runs: devices and dtypes by the names that settings give them, and torch's threads on a CPU."""

from __future__ import annotations

import os

import torch
from torch import nn

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

SMALL = 32_000_000
"""Models of up to this many parameters run on one CPU thread: see docs/performance.md."""

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_DEFAULT_THREADS = torch.get_num_threads()


def resolve_device(name: str) -> torch.device:
    """The device of this name; "auto" is CUDA where torch finds it, else the CPU.

    Of several processes that torchrun started, each gets the GPU of its LOCAL_RANK for "auto" and "cuda"; if there are
    fewer GPUs than processes, they take turns. Raises ValueError for a name that torch does not know. Whether the
    device exists is left to ``check_device``.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and os.environ.get("WORLD_SIZE", "1") != "1":
        # with its index, because other threads of the process begin with GPU 0
        return torch.device(
            "cuda", int(os.environ.get("LOCAL_RANK", "0")) % max(1, torch.cuda.device_count())
        )
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"The device {name!r} is unknown; choose auto, cpu, cuda or cuda:N.") from error


def check_device(device: torch.device) -> torch.device:
    """The same device. Raises ValueError where this machine, or this build of torch, does not have it."""
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"The device {str(device)!r} was requested, but torch sees no CUDA here; choose auto or cpu."
        )
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = next(
            (line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__
        )
        raise ValueError(
            f"The device {str(device)!r} cannot be used here ({reason[:200]}); choose auto, cpu, cuda or cuda:N."
        ) from error
    return device


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype of this name; "auto" is bfloat16 on a GPU that supports it, else float32. Raises ValueError."""
    if name == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if fast else torch.float32
    if name not in DTYPES:
        raise ValueError(f"The dtype {name!r} is unknown; choose auto, {', '.join(DTYPES)}.")
    return DTYPES[name]


def free_memory(device: torch.device) -> int:
    """Bytes that tensors on a GPU can still take, those that torch holds unused included."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def fit_threads(module: nn.Module) -> None:
    """Set torch's threads for a model on the CPU: one for a small model, torch's default for a large one.

    Threads synchronise after every operation. A small model runs thousands of short operations, and each of them
    waits whenever another process holds one of the cores; on idle cores a second thread gains little. A number
    chosen by the user stays: OMP_NUM_THREADS, MKL_NUM_THREADS or ``torch.set_num_threads``.
    """
    parameters = list(module.parameters())
    if any(parameter.device.type != "cpu" for parameter in parameters):
        return
    chosen = torch.get_num_threads() not in (1, _DEFAULT_THREADS)
    if chosen or any(os.environ.get(name) for name in _THREAD_VARIABLES):
        return
    small = sum(parameter.numel() for parameter in parameters) <= SMALL
    torch.set_num_threads(1 if small else _DEFAULT_THREADS)

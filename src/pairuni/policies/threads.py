"""How many threads torch takes for a model on a CPU."""

from __future__ import annotations

import os

import torch
from torch import nn

SMALL = 32_000_000
"""Parameters up to which a model's operations are too short to share: see docs/performance.md."""

_CHOSEN_BY_USERS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_DEFAULT = torch.get_num_threads()


def fit_threads(module: nn.Module) -> None:
    """One thread for a small model on a CPU, torch's own number for a large one.

    Threads wait for each other after every operation. Where another process holds one of the cores, each of the
    thousands of short operations of a small model waits for that process; alone, a second thread gains little.
    Numbers that somebody chose stay: by OMP_NUM_THREADS, MKL_NUM_THREADS or ``torch.set_num_threads``.
    """
    parameters = list(module.parameters())
    if any(parameter.device.type != "cpu" for parameter in parameters):
        return
    chosen = torch.get_num_threads() not in (1, _DEFAULT)
    if chosen or any(os.environ.get(name) for name in _CHOSEN_BY_USERS):
        return
    small = sum(parameter.numel() for parameter in parameters) <= SMALL
    torch.set_num_threads(1 if small else _DEFAULT)

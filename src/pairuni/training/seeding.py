"""Reproducible randomness for runs that resume: derived seeds, data order, generator states."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


def derive_seed(*parts: int) -> int:
    """An independent 32-bit seed for each tuple of non-negative parts, e.g. (run seed, step, task)."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def shuffled_indices(count: int, *, start: int, number: int, seed: int) -> list[int]:
    """Positions ``start`` to ``start + number`` of an endless stream of epochs over ``count`` items.

    Each epoch is a new permutation of range(count). The stream depends only on ``seed`` and position, so a resumed run
    gets the same items as an uninterrupted one.
    """
    indices: list[int] = []
    for epoch in range(start // count, (start + number - 1) // count + 1):
        order = np.random.default_rng([seed, epoch]).permutation(count)
        low, high = max(start - epoch * count, 0), min(start + number - epoch * count, count)
        indices.extend(int(index) for index in order[low:high])
    return indices


def random_state() -> dict[str, Tensor]:
    """States of torch's global generators, one uint8 tensor per device."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"cuda:{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    return states


def set_random_state(states: Mapping[str, Tensor]) -> None:
    """Restore ``random_state``; states of devices that this machine lacks are ignored."""
    torch.set_rng_state(states["cpu"])
    for index in range(torch.cuda.device_count()):
        if f"cuda:{index}" in states:
            torch.cuda.set_rng_state(states[f"cuda:{index}"], index)

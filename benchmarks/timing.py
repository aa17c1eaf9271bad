"""Times of contenders that take turns, so that a busy minute of the machine affects all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from benchmarks.hardware import synchronise
from pairuni.console.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of the repeats, without the warm-up."""

    seconds: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def to_dict(self) -> dict[str, float | int]:
        return {
            "seconds": self.median,
            "seconds_min": min(self.seconds),
            "seconds_max": max(self.seconds),
            "repeats": len(self.seconds),
        }


def interleaved(
    contenders: Mapping[str, Callable[[int], object]], *, repeats: int, device: torch.device, title: str
) -> dict[str, Timing]:
    """Run every contender once as a warm-up, then ``repeats`` rounds of all; each receives its round as seed."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    with Progress(title, total=len(contenders) * (repeats + 1), unit="runs") as progress:
        for turn in range(repeats + 1):
            for name, work in contenders.items():
                synchronise(device)
                began = time.perf_counter()
                work(turn)
                synchronise(device)
                took = time.perf_counter() - began
                if turn:
                    seconds[name].append(took)
                progress.advance(status=f"{name} {took:.2f} s")
    return {name: Timing(seconds=each) for name, each in seconds.items()}

"""Learning-rate schedule and progress, shared by the pretraining stages."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

Report = Callable[[str, int, int, dict[str, float]], None]
"""Called after each step with the stage's name, the step, the number of steps and the step's metrics."""


def one_cycle(
    optimizer: Optimizer, steps: int, *, warmup: float = 0.05, floor: float = 0.02, done: int = 0
) -> LambdaLR:
    """Linear warm-up over a share of the steps, then a cosine down to ``floor`` of the peak.

    done: steps of an earlier run, after which this one continues.
    """
    rise = max(1, round(steps * warmup))

    def scale(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))

    return LambdaLR(optimizer, lambda step: scale(done + step))

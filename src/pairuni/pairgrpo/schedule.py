"""How long a run trains, and the learning rate of each of its steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from pairuni.config import PairGRPOSettings, Schedule
from pairuni.pairgrpo.turns import TURNS

_DIGITS = 9
"""Decimals to which a number of steps is exact: 0.1 epochs of 30 pairs are 3, not 3.0000000000000004."""

_DECAYS: Mapping[Schedule, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
}
"""The factor of the learning rate after warm-up, from progress 0 to 1."""


def steps_of(settings: PairGRPOSettings, pairs: int) -> int:
    """Steps of a run on so many pairs: ``steps``, or those in which ``epochs`` passes over the pairs are complete.

    The data order has no gap between epochs, so only the last step can go beyond the last pass, by less than its pairs.
    """
    if settings.epochs is None:
        return settings.steps
    wanted = settings.epochs * pairs / (settings.pairs_per_batch * settings.batches_per_step)
    return max(1, math.ceil(round(wanted, _DIGITS))) * len(TURNS[settings.tasks])


def warmup_of(settings: PairGRPOSettings, steps: int) -> int:
    """Steps of the warm-up in a run of ``steps``; a share is rounded up, as in ``transformers``."""
    return settings.warmup_steps or math.ceil(round(settings.warmup_share * steps, _DIGITS))


def learning_rate_at(step: int, settings: PairGRPOSettings, steps: int) -> float:
    """The learning rate of step 1, 2, ..., ``steps``.

    In the warm-up of W steps, that of step s is s / W of ``learning_rate``. After it, the share falls from 1 towards
    ``min_learning_rate_share`` with progress (s - 1 - W) / (steps - W). These are the rates of ``transformers``, which
    counts steps from 0, but for a warm-up that is a step ahead, so that the first step has a rate above 0.
    """
    warmup = warmup_of(settings, steps)
    if step <= warmup:
        return settings.learning_rate * min(1.0, step / warmup)
    progress = (step - 1 - warmup) / max(1, steps - warmup)
    floor = settings.min_learning_rate_share
    factor = _DECAYS[settings.schedule](progress)
    return settings.learning_rate * (factor * (1.0 - floor) + floor)

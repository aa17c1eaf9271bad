"""The interface of a reward: a batch of records and samples in, one score per sample out.

A custom class needs ``name`` and ``__call__``. The shipped rewards also have ``range``, the least and the largest
score, ``needs``, the keys that a record must have, ``models``, their torch modules, and ``from_settings``. One that
cannot score some records, whatever the sample, has ``check_records``, which raises for them before a run starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

from PIL import Image

from pairuni.records import Annotation

if TYPE_CHECKING:
    from torch.nn import Module


class TextReward(Protocol):
    """Scores answers, for the understanding task."""

    name: str

    def __call__(self, records: Sequence[Annotation], samples: Sequence[str]) -> list[float]:
        """One score per sample. Raises if a sample cannot be scored: never a silent 0."""
        ...


class ImageReward(Protocol):
    """Scores images, for the generation task."""

    name: str

    def __call__(self, records: Sequence[Annotation], samples: Sequence[Image.Image]) -> list[float]:
        """One score per sample. Raises if a sample cannot be scored: never a silent 0."""
        ...


class Reward(Protocol):
    """A reward of either task."""

    name: str

    def __call__(self, records: Sequence[Annotation], samples: Sequence[Any]) -> list[float]:
        """One score per sample."""
        ...


def range_of(reward: Reward) -> tuple[float, float]:
    """The least and the largest score; unbounded if the class does not define them."""
    bounds: tuple[float, float] = getattr(reward, "range", (-inf, inf))
    return bounds


def models_of(holder: object) -> tuple[Module, ...]:
    """The torch modules of a reward or of a part of one."""
    models: tuple[Module, ...] = getattr(holder, "models", ())
    return models


def needs_of(reward: Reward) -> tuple[str, ...]:
    """The keys that a record must have to be scored; none if the class does not define them."""
    keys: tuple[str, ...] = getattr(reward, "needs", ())
    return keys

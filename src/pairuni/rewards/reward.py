"""The interface of a reward: a batch of records and samples in, one score each out.

A class of a user's own needs ``name`` and ``__call__``. Those that ship also say their ``range``, the least and the
largest score, ``needs``, the keys that a record must have, and ``models``, the torch modules that they hold; and they
are made by ``from_settings``.
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
    """Scores answers of the understanding side."""

    name: str

    def __call__(self, records: Sequence[Annotation], samples: Sequence[str]) -> list[float]:
        """One score a sample. Raises when a sample cannot be scored: never a silent 0."""
        ...


class ImageReward(Protocol):
    """Scores images of the generation side."""

    name: str

    def __call__(self, records: Sequence[Annotation], samples: Sequence[Image.Image]) -> list[float]:
        """One score a sample. Raises when a sample cannot be scored: never a silent 0."""
        ...


class Reward(Protocol):
    """Either, where what is scored does not matter."""

    name: str

    def __call__(self, records: Sequence[Annotation], samples: Sequence[Any]) -> list[float]:
        """One score a sample."""
        ...


def range_of(reward: Reward) -> tuple[float, float]:
    """The least and the largest score; unbounded for a class that does not say."""
    bounds: tuple[float, float] = getattr(reward, "range", (-inf, inf))
    return bounds


def models_of(holder: object) -> tuple[Module, ...]:
    """The torch modules that a reward, or a part of one, says to hold."""
    models: tuple[Module, ...] = getattr(holder, "models", ())
    return models


def needs_of(reward: Reward) -> tuple[str, ...]:
    """The keys that a record must have to be scored; none for a class that does not say."""
    keys: tuple[str, ...] = getattr(reward, "needs", ())
    return keys

"""The interface of a reward: a batch of records and samples in, one score each out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from PIL import Image

from pairuni.records import Annotation


class TextReward(Protocol):
    """Scores answers of the understanding side."""

    name: str

    def __call__(self, records: Sequence[Annotation], samples: Sequence[str]) -> list[float]:
        """One score a sample. Raises when a sample cannot be scored: never a silent 0."""
        ...


class ImageReward(Protocol):
    """Scores pictures of the generation side."""

    name: str

    def __call__(self, records: Sequence[Annotation], samples: Sequence[Image.Image]) -> list[float]:
        """One score a sample. Raises when a sample cannot be scored: never a silent 0."""
        ...

"""The interface of a tracker, and what it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image


@dataclass(frozen=True)
class Picture:
    """Sampled images of one prompt, side by side. name: place in its step, such as samples/0."""

    name: str
    image: Image.Image
    caption: str


class Tracker(Protocol):
    """Receives metrics and pictures in the order of their steps."""

    name: str

    def begin(self) -> int:
        """Begin, or continue what an earlier part of the run sent; the last step that it holds, -1 if none."""
        ...

    def log(self, metrics: Mapping[str, float], pictures: Sequence[Picture], step: int) -> None:
        """Finite values by the names of metrics.jsonl. Held-out scores may come in a second call for their step."""
        ...

    def close(self) -> None:
        """Wait until everything is written."""
        ...

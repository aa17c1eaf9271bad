"""What a detector and a namer of colours give, whoever they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class Detection:
    """One object: box (left, top, right, bottom) in pixels, y downwards, and confidence in [0, 1].

    mask: [height, width] of the image, where the detector has one; colour: None until one is named, and where it
    is none of those known.
    """

    box: tuple[float, float, float, float]
    confidence: float
    label: str = ""
    mask: NDArray[np.bool_] | None = field(default=None, compare=False, repr=False)
    colour: str | None = None


Objects = Mapping[str, Sequence[Detection]]
"""The objects of an image by class."""


class Detector(Protocol):
    """Finds objects. labels: every class that it knows; names_colours: its detections come with colours."""

    name: str
    labels: frozenset[str]
    names_colours: bool

    def __call__(self, pictures: Sequence[Image.Image]) -> list[list[Detection]]:
        """The objects of each RGB image, in any order."""
        ...


class ColourNamer(Protocol):
    """Names colours of objects."""

    name: str

    def __call__(self, objects: Sequence[tuple[Image.Image, Detection]]) -> list[str]:
        """A colour of ``rules.COLOURS`` for each object of an RGB image."""
        ...

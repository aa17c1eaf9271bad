"""The interfaces of detectors and colour classifiers, and what all detectors share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_ALIASES = {
    "mouse": "computer mouse",
    "remote": "tv remote",
    "keyboard": "computer keyboard",
    "motorbike": "motorcycle",
    "aeroplane": "airplane",
    "sofa": "couch",
    "pottedplant": "potted plant",
    "diningtable": "dining table",
    "tvmonitor": "tv",
    "hair dryer": "hair drier",
    "doughnut": "donut",
}
"""COCO class -> GenEval class where they differ, with the Pascal VOC names that RT-DETR's checkpoints use."""


@dataclass(frozen=True)
class Detection:
    """One object: box (left, top, right, bottom) in pixels, y downwards, and confidence in [0, 1].

    mask: [height, width] of the image, or None. colour: None until classified, and if it is none of the known ones.
    """

    box: tuple[float, float, float, float]
    confidence: float
    label: str = ""
    mask: NDArray[np.bool_] | None = field(default=None, compare=False, repr=False)
    colour: str | None = None


Objects = Mapping[str, Sequence[Detection]]
"""The objects of an image by class."""


class Detector(Protocol):
    """Finds objects. labels: every class that it knows; names_colours: whether its detections include colours."""

    name: str
    labels: frozenset[str]
    names_colours: bool

    def __call__(self, images: Sequence[Image.Image]) -> list[list[Detection]]:
        """The objects of each RGB image, in any order."""
        ...


class ColourClassifier(Protocol):
    """Names the colours of objects."""

    name: str

    def __call__(self, objects: Sequence[tuple[Image.Image, Detection]]) -> list[str]:
        """One of ``rules.COLOURS`` for each object of an RGB image."""
        ...


def geneval_name(label: str) -> str:
    """GenEval's name of a COCO class; other classes keep their name, in lower case."""
    name = label.strip().lower().replace("_", " ")
    return _ALIASES.get(name, name)


def same_size_batches(images: Sequence[Image.Image], batch_size: int) -> list[list[int]]:
    """Indices of the images in batches of equal size, at most ``batch_size`` in each."""
    sizes: dict[tuple[int, int], list[int]] = {}
    for index, image in enumerate(images):
        sizes.setdefault(image.size, []).append(index)
    return [
        group[start : start + batch_size]
        for group in sizes.values()
        for start in range(0, len(group), batch_size)
    ]

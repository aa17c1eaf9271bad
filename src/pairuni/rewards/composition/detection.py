"""The interfaces of detectors and colour classifiers, and what all detectors share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    import torch

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


class TransformersDetector(ABC):
    """A detector that runs a ``transformers`` model on batches of up to ``batch_size`` images of equal size.

    least: the confidence that an object must exceed. The objects of an image do not depend on the others.
    """

    names_colours = False

    def __init__(self, model: Any, name: str, *, device: torch.device, least: float, batch_size: int) -> None:
        self.name, self._least, self._batch_size = name, least, batch_size
        self._model = model.to(device).eval().requires_grad_(False)
        self.models = (self._model,)
        self._names = {index: geneval_name(label) for index, label in model.config.id2label.items()}
        self.labels = frozenset(self._names.values()) - {"n/a"}

    def __call__(self, images: Sequence[Image.Image]) -> list[list[Detection]]:
        """The objects of each image, in any order."""
        sizes: dict[tuple[int, int], list[int]] = {}
        for index, image in enumerate(images):
            sizes.setdefault(image.size, []).append(index)
        found: list[list[Detection]] = [[] for _ in images]
        for group in sizes.values():
            for start in range(0, len(group), self._batch_size):
                batch = group[start : start + self._batch_size]
                for index, objects in zip(batch, self._detect([images[i] for i in batch]), strict=True):
                    found[index] = objects
        return found

    @abstractmethod
    def _detect(self, images: Sequence[Image.Image]) -> list[list[Detection]]:
        """The objects of each image of a batch."""

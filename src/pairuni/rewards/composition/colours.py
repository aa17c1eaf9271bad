"""Zero-shot classification of an object's colour by CLIP, as in GenEval's script."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from pairuni.io.rgb import as_rgb
from pairuni.rewards.clip.scorer import ClipScorer
from pairuni.rewards.composition.detection import Detection
from pairuni.rewards.composition.rules import COLOURS

TEMPLATES = (
    "a photo of a {colour} {name}",
    "a photo of a {colour}-colored {name}",
    "a photo of a {colour} object",
)
_GREY = "#999"
_BATCH = 64


class ClipColours:
    """The colour whose CLIP text feature, the mean over three templates, is nearest to the object's image feature.

    An object is cropped to its box; what its mask leaves out is grey.
    """

    def __init__(self, scorer: ClipScorer, name: str) -> None:
        self.name, self._scorer = name, scorer
        self.models = (scorer.model,)
        self._classifiers: dict[str, Tensor] = {}

    @torch.inference_mode()
    def __call__(self, objects: Sequence[tuple[Image.Image, Detection]]) -> list[str]:
        """A colour for each object of an RGB image."""
        colours: list[str] = []
        for start in range(0, len(objects), _BATCH):
            part = objects[start : start + _BATCH]
            features = self._scorer.image_features([crop(image, one) for image, one in part])
            texts = torch.stack([self._classifier(one.label) for _, one in part])
            nearest = torch.einsum("nd,ncd->nc", features, texts).argmax(dim=1)
            colours += [COLOURS[index] for index in nearest.tolist()]
        return colours

    def _classifier(self, name: str) -> Tensor:
        """Text features [10, D] of the colours of a class."""
        if name not in self._classifiers:
            sentences = [form.format(colour=colour, name=name) for colour in COLOURS for form in TEMPLATES]
            features = self._scorer.text_features(sentences).view(len(COLOURS), len(TEMPLATES), -1)
            self._classifiers[name] = normalize(features.mean(dim=1), dim=-1)
        return self._classifiers[name]


def crop(image: Image.Image, one: Detection) -> Image.Image:
    """The box of an object, at least one pixel wide and high; what its mask leaves out is grey."""
    image = as_rgb(image)
    if one.mask is not None:
        blank = Image.new("RGB", image.size, color=_GREY)
        image = Image.composite(image, blank, Image.fromarray(np.asarray(one.mask, dtype=bool)))
    left, top, right, bottom = (round(side) for side in one.box)
    return image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))

"""The colour of an object by CLIP, zero-shot, as GenEval's script asks for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from pairuni.io.rgb import as_rgb
from pairuni.rewards.clip.preprocessing import MEAN, STD
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
    """Names colours by the nearest of CLIP's text features, each the mean of three sentences.

    An object is cut out by its box; where it has a mask, all else is grey.
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
            features = self._scorer.image_features([cut_out(picture, one) for picture, one in part])
            texts = torch.stack([self._classifier(one.label) for _, one in part])
            nearest = torch.einsum("nd,ncd->nc", features, texts).argmax(dim=1)
            colours += [COLOURS[index] for index in nearest.tolist()]
        return colours

    def _classifier(self, name: str) -> Tensor:
        """[10, D] features of the colours of a class."""
        if name not in self._classifiers:
            sentences = [form.format(colour=colour, name=name) for colour in COLOURS for form in TEMPLATES]
            features = self._scorer.text_features(sentences).view(len(COLOURS), len(TEMPLATES), -1)
            self._classifiers[name] = normalize(features.mean(dim=1), dim=-1)
        return self._classifiers[name]


def cut_out(picture: Image.Image, one: Detection) -> Image.Image:
    """The box of an object, at least a pixel wide and high; what its mask leaves out is grey."""
    picture = as_rgb(picture)
    if one.mask is not None:
        blank = Image.new("RGB", picture.size, color=_GREY)
        picture = Image.composite(picture, blank, Image.fromarray(np.asarray(one.mask, dtype=bool)))
    left, top, right, bottom = (round(side) for side in one.box)
    return picture.crop((left, top, max(right, left + 1), max(bottom, top + 1)))


def open_clip_pixels(pictures: Sequence[Image.Image], size: int) -> Tensor:
    """Normalised [N, 3, size, size] as open_clip prepares images for OpenAI's CLIP.

    Bytes resized by PIL (bicubic), the shorter side to ``size``, then the middle square.
    """
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    squares = []
    for picture in pictures:
        width, height = picture.size
        short = min(width, height)
        resized = picture.resize(
            (int(size * width / short), int(size * height / short)), Image.Resampling.BICUBIC
        )
        left, top = round((resized.width - size) / 2), round((resized.height - size) / 2)
        square = resized.crop((left, top, left + size, top + size))
        squares.append(torch.from_numpy(np.array(as_rgb(square))).permute(2, 0, 1).float() / 255)
    return (torch.stack(squares) - mean) / std

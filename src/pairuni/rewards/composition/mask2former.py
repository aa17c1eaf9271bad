"""Mask2Former of ``transformers`` with mmdetection 2's instance inference, which GenEval uses.

Images are resized, padded and normalised as in mmdetection's ``mask2former_*_lsj_8x2_50e_coco``. Instances may
overlap, and their scores and boxes come from masks at the image's own size. The post-processing of
``transformers`` differs: it resizes masks to 384 x 384 and keeps only the last of overlapping ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate, pad

from pairuni.io.rgb import as_rgb
from pairuni.rewards.composition.detection import Detection, TransformersDetector

SHORT, LONG = 800, 1333
"""An image is resized so that its shorter side is SHORT, or its longer side LONG if that is smaller."""
_DIVISOR = 32
_MAX_INSTANCES = 100
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class Mask2FormerDetector(TransformersDetector):
    """A ``Mask2FormerForUniversalSegmentation``, whose instances have masks."""

    @torch.inference_mode()
    def _detect(self, images: Sequence[Image.Image]) -> list[list[Detection]]:
        width, height = images[0].size
        device = self._model.device
        pixels, resized = preprocess(images, device)
        outputs = self._model(pixel_values=pixels, output_auxiliary_logits=False)
        return [
            self._objects(
                instances(
                    classes.float(),
                    masks.float(),
                    padded=(pixels.shape[2], pixels.shape[3]),
                    resized=resized,
                    size=(height, width),
                    least=self._least,
                )
            )
            for classes, masks in zip(outputs.class_queries_logits, outputs.masks_queries_logits, strict=True)
        ]

    def _objects(self, found: Instances) -> list[Detection]:
        boxes, masks = found.boxes.tolist(), found.masks.cpu().numpy()
        return [
            Detection((box[0], box[1], box[2], box[3]), score, self._names[label], mask)
            for box, score, label, mask in zip(
                boxes, found.scores.tolist(), found.labels.tolist(), masks, strict=True
            )
        ]


@dataclass(frozen=True)
class Instances:
    """labels [N], scores [N], boxes [N, 4] as left, top, right, bottom in integer pixels, masks [N, height, width]."""

    labels: Tensor
    scores: Tensor
    boxes: Tensor
    masks: Tensor


def instances(
    class_logits: Tensor,
    mask_logits: Tensor,
    *,
    padded: tuple[int, int],
    resized: tuple[int, int],
    size: tuple[int, int],
    least: float,
) -> Instances:
    """The instances of one image with a score above ``least``.

    class_logits: [Q, C + 1], the last class is "no object". mask_logits: [Q, h, w] of the padded image. padded,
    resized, size: (height, width) of the model's input, of the image in it, and of the image itself. The instances
    are the 100 most probable pairs of query and class; the score is that probability times the mean probability
    within the mask.
    """
    probabilities = class_logits.softmax(dim=-1)[:, :-1]
    best, places = probabilities.flatten().topk(min(_MAX_INSTANCES, probabilities.numel()))
    # A mask can only lower the score, so no mask is resized for a pair that cannot pass.
    possible = best > least
    best, places = best[possible], places[possible]
    queries, labels = places // probabilities.shape[1], places % probabilities.shape[1]
    logits = interpolate(mask_logits[queries][None], size=padded, mode="bilinear", align_corners=False)
    logits = logits[:, :, : resized[0], : resized[1]]
    logits = interpolate(logits, size=size, mode="bilinear", align_corners=False)[0]
    masks = logits > 0
    areas = masks.flatten(1).sum(dim=1)
    within = (logits.sigmoid() * masks).flatten(1).sum(dim=1) / (areas + 1e-6)
    scores = best * within
    kept = scores > least
    return Instances(labels[kept], scores[kept], boxes_of(masks[kept]), masks[kept])


def boxes_of(masks: Tensor) -> Tensor:
    """Boxes [N, 4] around masks [N, height, width], none of them empty; right and bottom are exclusive."""
    sides = []
    for across in (masks.any(dim=1), masks.any(dim=2)):
        length = across.shape[1]
        shown = across.int()
        sides += [shown.argmax(dim=1), length - shown.flip(1).argmax(dim=1)]
    left, right, top, bottom = sides
    return torch.stack([left, top, right, bottom], dim=1)


def preprocess(images: Sequence[Image.Image], device: torch.device) -> tuple[Tensor, tuple[int, int]]:
    """Images of one size as the model's input [N, 3, H, W], and (height, width) of the image in it.

    Bytes are resized bilinearly without antialiasing, as OpenCV does; the padding is 0 after normalisation.
    """
    width, height = images[0].size
    scale = min(LONG / max(height, width), SHORT / min(height, width))
    resized = int(height * scale + 0.5), int(width * scale + 0.5)
    stacked = np.stack([np.asarray(as_rgb(image)) for image in images])
    pixels = torch.from_numpy(stacked).to(device).permute(0, 3, 1, 2).float()
    pixels = interpolate(pixels, size=resized, mode="bilinear", align_corners=False).round_()
    mean = torch.tensor(_MEAN, device=device)[:, None, None]
    std = torch.tensor(_STD, device=device)[:, None, None]
    return pad((pixels - mean) / std, (0, -resized[1] % _DIVISOR, 0, -resized[0] % _DIVISOR)), resized

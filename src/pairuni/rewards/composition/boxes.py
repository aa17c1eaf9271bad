"""Object detection models of ``transformers``: DETR, RT-DETR, YOLOS and similar models. Boxes, no masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from pairuni.io.rgb import as_rgb
from pairuni.rewards.composition.detection import Detection, geneval_name, same_size_batches


class BoxDetector:
    """Objects with a confidence above ``least``, by the model's own processor.

    model: from ``AutoModelForObjectDetection``. processor: of the model, with ``post_process_object_detection``. A
    batch holds ``batch_size`` images of one size; the objects of an image do not depend on the others.
    """

    names_colours = False

    def __init__(
        self,
        model: Any,
        processor: Any,
        name: str,
        *,
        device: torch.device,
        least: float = 0.3,
        batch_size: int = 8,
    ) -> None:
        self.name, self._least, self._batch_size = name, least, batch_size
        self._model, self._processor = model.to(device).eval().requires_grad_(False), processor
        self.models = (self._model,)
        self._names = {index: geneval_name(label) for index, label in model.config.id2label.items()}
        self.labels = frozenset(self._names.values()) - {"n/a"}

    def __call__(self, images: Sequence[Image.Image]) -> list[list[Detection]]:
        """The objects of each image, in any order."""
        found: list[list[Detection]] = [[] for _ in images]
        for group in same_size_batches(images, self._batch_size):
            for index, objects in zip(group, self._detect([images[i] for i in group]), strict=True):
                found[index] = objects
        return found

    @torch.inference_mode()
    def _detect(self, images: Sequence[Image.Image]) -> list[list[Detection]]:
        inputs = self._processor(images=[as_rgb(image) for image in images], return_tensors="pt")
        outputs = self._model(**inputs.to(self._model.device))
        rows = self._processor.post_process_object_detection(
            outputs, threshold=self._least, target_sizes=[image.size[::-1] for image in images]
        )
        return [
            [
                Detection((box[0], box[1], box[2], box[3]), score, self._names[label])
                for box, score, label in zip(
                    row["boxes"].tolist(), row["scores"].tolist(), row["labels"].tolist(), strict=True
                )
                if self._names[label] in self.labels
            ]
            for row in rows
        ]

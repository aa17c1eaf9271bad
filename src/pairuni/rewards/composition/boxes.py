"""Object detection models of ``transformers``: DETR, RT-DETR, YOLOS and similar models. Boxes, no masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from pairuni.io.rgb import as_rgb
from pairuni.rewards.composition.detection import Detection, TransformersDetector


class BoxDetector(TransformersDetector):
    """A model of ``AutoModelForObjectDetection`` with its processor's ``post_process_object_detection``."""

    def __init__(self, model: Any, processor: Any, name: str, **options: Any) -> None:
        super().__init__(model, name, **options)
        self._processor = processor

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

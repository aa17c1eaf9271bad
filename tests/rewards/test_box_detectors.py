"""Box detectors compared with the model and processor of ``transformers``, one image at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoModelForObjectDetection,
    DetrImageProcessorPil,
    RTDetrImageProcessorPil,
    YolosImageProcessorPil,
)

import tiny_detectors
from pairuni.rewards.composition.detection import geneval_name
from pairuni.rewards.composition.loading import load_detector


@pytest.mark.parametrize(
    ("make", "processor"),
    [
        (tiny_detectors.yolos, YolosImageProcessorPil),
        (tiny_detectors.detr, DetrImageProcessorPil),
        (tiny_detectors.rt_detr, RTDetrImageProcessorPil),
    ],
)
def test_objects_match_the_processor(make: Callable[[Path], Path], processor: type, tmp_path: Path) -> None:
    folder = make(tmp_path)
    detector = load_detector(str(folder), device="cpu", least=0.1, batch_size=2)
    assert detector.labels == {"person", "dog", "computer mouse", "couch", "tv", "cup"}
    rng = np.random.default_rng(0)
    sizes = [(60, 40), (32, 32), (60, 40), (60, 40)]
    images = [
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)) for width, height in sizes
    ]
    found = detector(images)
    model, own = AutoModelForObjectDetection.from_pretrained(folder).eval(), processor.from_pretrained(folder)
    for image, objects in zip(images, found, strict=True):
        with torch.no_grad():
            outputs = model(**own(images=[image], return_tensors="pt"))
        rows = own.post_process_object_detection(
            outputs, threshold=0.1, target_sizes=[(image.height, image.width)]
        )[0]
        named = [geneval_name(model.config.id2label[label]) for label in rows["labels"].tolist()]
        known = [place for place, name in enumerate(named) if name != "n/a"]
        assert [one.label for one in objects] == [named[place] for place in known]
        assert [one.confidence for one in objects] == pytest.approx(
            [rows["scores"].tolist()[place] for place in known], abs=1e-5
        )
        assert np.allclose(
            [one.box for one in objects], rows["boxes"].numpy()[known].reshape(-1, 4), atol=1e-3
        )
        assert all(one.mask is None for one in objects)
    assert sum(map(len, found)) > 4

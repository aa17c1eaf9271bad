"""Colours by CLIP compared with clip_benchmark's zero-shot classifier and CLIP's own preprocessing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPModel

import tiny_detectors
from pairuni.rewards.clip.preprocessing import bytes_first
from pairuni.rewards.clip.text import load_tokenizer
from pairuni.rewards.composition.colours import crop
from pairuni.rewards.composition.detection import Detection
from pairuni.rewards.composition.loading import load_colours
from pairuni.rewards.composition.rules import COLOURS

RNG = np.random.default_rng(0)


def noise(width: int, height: int) -> Image.Image:
    coarse = RNG.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def test_colours_match_the_zero_shot_classifier(tmp_path: Path) -> None:
    folder = tiny_detectors.clip(tmp_path)
    model, tokenizer = CLIPModel.from_pretrained(folder).eval(), load_tokenizer(str(folder))
    objects = []
    for index in range(40):
        image = noise(80, 60)
        mask = None if index % 3 == 0 else RNG.random((60, 80)) < 0.7
        objects.append((image, Detection((5, 7, 60, 50), 0.9, ("dog", "tv remote")[index % 2], mask)))
    embedded: dict[str, torch.Tensor] = {}  # [colours, D] of each class
    expected = []
    with torch.no_grad():
        for name in ("dog", "tv remote"):
            texts = [
                [
                    f"a photo of a {colour} {name}",
                    f"a photo of a {colour}-colored {name}",
                    f"a photo of a {colour} object",
                ]
                for colour in COLOURS
            ]
            rows = []
            for three in texts:
                features = torch.cat(
                    [
                        model.get_text_features(**tokenizer([text], return_tensors="pt")).pooler_output
                        for text in three
                    ]
                )
                mean = (features / features.norm(dim=-1, keepdim=True)).mean(dim=0)
                rows.append(mean / mean.norm())
            embedded[name] = torch.stack(rows)
        for image, one in objects:
            pixels = np.array(image)
            if one.mask is not None:
                pixels[~one.mask] = 0x99
            cut = Image.fromarray(pixels[7:50, 5:60])
            features = model.get_image_features(
                pixel_values=bytes_first([cut], model.config.vision_config.image_size)
            ).pooler_output[0]
            expected.append(COLOURS[int((embedded[one.label] @ features).argmax())])
    assert load_colours(str(folder), device="cpu")(objects) == expected
    assert len(set(expected)) > 1


@pytest.mark.parametrize(("width", "height"), [(500, 332), (224, 224), (90, 300)])
def test_pixels_match_openais_preprocessing(width: int, height: int) -> None:
    image = noise(width, height)
    ours = bytes_first([image], 224)
    theirs = CLIPImageProcessorPil()(images=[image], return_tensors="pt")["pixel_values"]
    assert ours.shape == (1, 3, 224, 224)
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_the_background_is_grey_and_no_crop_is_empty() -> None:
    red = Image.new("RGB", (6, 4), "red")
    mask = np.zeros((4, 6), dtype=bool)
    mask[1:3, 2:4] = True
    cut = np.array(crop(red, Detection((1, 1, 5, 4), 0.9, mask=mask)))
    assert cut.shape == (3, 4, 3)
    assert cut[0, 0].tolist() == [0x99] * 3
    assert cut[0, 1].tolist() == [255, 0, 0]
    assert crop(red, Detection((2.1, 1.2, 2.3, 1.4), 0.9)).size == (1, 1)

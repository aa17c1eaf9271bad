"""Preprocessing compared with stored pixels of the original Janus code.

``tests/reference/janus_preprocessing.json`` was made by the original's VLMImageProcessor of the images that
``pattern`` makes; ``janus_pixels.json`` by the same code of photographs.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers.models.janus.image_processing_pil_janus import JanusImageProcessorPil

from pairuni.io.rgb import as_rgb
from pairuni.policies.janus.images import preprocess
from pairuni.policies.requests import TextSampling

GENERATED = json.loads((Path(__file__).parents[1] / "reference" / "janus_preprocessing.json").read_text())
SHARED = Path(__file__).parents[3] / "shared"
PIXELS, PHOTOGRAPHS = SHARED / "reference" / "janus_pixels.json", SHARED / "data" / "coco_by" / "images"


def pattern(width, height):
    """Gradients, curves and a chequerboard: every pixel differs from its neighbours."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [(x * 7 + y * 3), (x * x // 5 + y * 11), (x * y // 3 + 40 * ((x // 8 + y // 8) % 2))]
    return Image.fromarray((np.stack(channels, axis=-1) % 256).astype(np.uint8))


def processor_of(settings):
    settings = dict(settings)
    side = settings.pop("image_size")
    return JanusImageProcessorPil(size={"height": side, "width": side}, **settings)


@pytest.mark.parametrize(
    "case", GENERATED["pictures"], ids=lambda case: f"{case['settings']}-{case['size'][0]}x{case['size'][1]}"
)
def test_generated_images_equal_the_original(case):
    settings = GENERATED["settings"][case["settings"]]
    pixels = preprocess(pattern(*case["size"]), processor_of(settings))
    assert pixels.shape == (3, settings["image_size"], settings["image_size"])
    assert float(pixels.mean()) == pytest.approx(case["mean"], abs=1e-5)
    assert float(pixels.std(correction=0)) == pytest.approx(case["std"], abs=1e-5)
    for channel, row, column, value in case["points"]:
        assert float(pixels[channel, row, column]) == pytest.approx(value, abs=1e-5)


@pytest.mark.skipif(not PIXELS.is_file(), reason="the photographs are not in the repository")
def test_photographs_equal_the_original():
    stored = json.loads(PIXELS.read_text())
    processor = processor_of(GENERATED["settings"]["Janus-Pro"])
    assert len(stored["pictures"]) == 51
    rounded_otherwise = 0
    for name, expected in stored["pictures"].items():
        image = as_rgb(Image.open(PHOTOGRAPHS / name))
        pixels = preprocess(image, processor)
        found = [float(pixels[tuple(point)]) for point in stored["points"]]
        assert found == pytest.approx(expected["values"], abs=1e-5), name
        assert float(pixels.mean()) == pytest.approx(expected["mean"], abs=1e-5), name
        assert float(pixels.std(correction=0)) == pytest.approx(expected["std"], abs=1e-5), name
        plain = processor(image, return_tensors="pt")["pixel_values"][0]
        rounded_otherwise += not np.allclose(plain, pixels, atol=1e-5)
    assert rounded_otherwise == 18  # images that the processor of transformers scales to another height


def test_a_square_image_is_as_in_plain_transformers():
    processor = processor_of(GENERATED["settings"]["Janus-Pro"])
    image = pattern(500, 500)
    plain = processor(image, return_tensors="pt")["pixel_values"][0]
    np.testing.assert_allclose(preprocess(image, processor), plain, atol=1e-6)


def test_training_answering_and_features_see_these_pixels(policy):
    image = pattern(20, 28)
    pixels = preprocess(image, policy.processor.image_processor)
    plain = policy.processor.image_processor(image, return_tensors="pt")["pixel_values"][0]
    assert not np.allclose(pixels, plain, atol=1e-3)
    sampled = policy.sample_text(
        TextSampling(images=[image], questions=["what?"], temperature=0.0, max_new_tokens=1)
    )
    for found in (policy.pixel_values([image])[0], *sampled[0][0].pixel_values):
        np.testing.assert_array_equal(found, pixels)

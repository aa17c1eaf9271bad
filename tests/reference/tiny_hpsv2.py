"""A small HPSv2 with seeded weights, images and prompts, whose scores by open_clip are stored."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
SHARED = HERE.parents[2] / "shared" / "data" / "coco_by"
SCORES = HERE / "hpsv2_scores.json"
KEYS = HERE / "open_clip_vit_h_14.txt"
MERGES = HERE / "tiny_bpe.txt"
PHOTOS = 12

EMBED, LAYERS = 48, 2
VISION = {"layers": LAYERS, "width": 160, "head_width": 80, "patch_size": 14, "image_size": 224}
TEXT = {"context_length": 77, "width": 128, "heads": 2, "layers": LAYERS}

PROMPTS = [
    "A red bus parked beside a yellow car.",
    "  Two  DOGS\tand\n a cat's toy   ",
    "caf\u00e9 &amp; bar, \u201copen\u201d at 10:30 &amp;amp; closed on Sundays",
    "\uff26\uff35\uff2c\uff2c width, na\u00efve, \u4e2d\u6587 and \U0001f600",
    "schön ist &lt;b&gt;bold&lt;/b&gt;, they've won 2024 games!!!",
    "a very long prompt about a dog " * 30,
    "",
    "x",
]
"""Cleaning, truncation and the empty prompt."""


def shapes() -> dict[str, list[int]]:
    """open_clip's names and shapes of the small model, as open_clip's own state dict had them."""
    found: dict[str, list[int]] = json.loads(SCORES.read_text(encoding="utf-8"))["shapes"]
    return found


def weights(shapes: dict[str, list[int]], seed: int = 7) -> dict[str, np.ndarray[Any, Any]]:
    """Float32 weights by name, from a legacy generator of numpy, whose stream never changes."""
    rng = np.random.RandomState(seed)
    made = {}
    for name in sorted(shapes):
        shape = shapes[name]
        values = rng.standard_normal(shape)
        if name == "logit_scale":
            values = np.asarray(2.0)
        elif ".ln_" in f".{name}" and name.endswith("weight"):
            values = 1 + 0.2 * values
        elif len(shape) < 2 or "embedding" in name:
            values = 0.3 * values
        else:
            fan_in = shape[0] if name in {"visual.proj", "text_projection"} else np.prod(shape[1:])
            values = values * 1.5 / np.sqrt(fan_in)
        made[name] = np.asarray(values, dtype=np.float32)
    return made


def synthetic_images() -> dict[str, Image.Image]:
    """Images of odd sizes and modes, made by arithmetic."""
    rng = np.random.RandomState(11)

    def noise(height: int, width: int, channels: int) -> np.ndarray[Any, Any]:
        down, across = np.mgrid[0:height, 0:width]
        wave = 96 * np.sin(down / 17 + np.arange(channels)[:, None, None]) + 64 * np.cos(across / 9)
        return (
            np.clip(128 + wave + 30 * rng.standard_normal(wave.shape), 0, 255)
            .astype(np.uint8)
            .transpose(1, 2, 0)
        )

    return {
        "wide": Image.fromarray(noise(97, 311, 3)),
        "tall": Image.fromarray(noise(640, 300, 3)),
        "square384": Image.fromarray(noise(384, 384, 3)),
        "square224": Image.fromarray(noise(224, 224, 3)),
        "enlarged": Image.fromarray(noise(50, 61, 3)),
        "one-wide": Image.fromarray(noise(40, 1, 3)),
        "one-pixel": Image.fromarray(noise(1, 1, 3)),
        "grey": Image.fromarray(noise(200, 260, 1)[:, :, 0]),
        "rgba": Image.fromarray(noise(260, 230, 4)),
        "palette": Image.fromarray(noise(230, 240, 3)).quantize(64),
    }


def photos() -> dict[str, tuple[Image.Image, str]]:
    """Real photographs with a caption, each in colour, grey or with an alpha channel by turns."""
    found = {}
    lines = (SHARED / "photos.jsonl").read_text(encoding="utf-8").splitlines()
    for place, line in enumerate(lines[:PHOTOS]):
        row = json.loads(line)
        with Image.open(SHARED / row["image"]) as opened:
            image = opened.convert(("RGB", "L", "RGBA")[place % 3])
        if image.mode == "RGBA":
            image.putalpha(Image.linear_gradient("L").resize(image.size))
        found[f"{row['image']} {image.mode}"] = (image, row["captions"][0])
    return found


def write_vocabulary(path: Path) -> Path:
    """The small vocabulary in the form of open_clip's bpe_simple_vocab_16e6.txt.gz."""
    with gzip.open(path, "wb") as file:
        file.write(MERGES.read_bytes().rstrip())
    return path

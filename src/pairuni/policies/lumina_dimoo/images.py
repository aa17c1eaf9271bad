"""Images of Lumina-DiMOO: the sizes that it knows, and fitting an image to one of them.

Sizes and scaling are those of the original code (Alpha-VLLM/Lumina-DiMOO, ``utils/image_utils.py``), which cuts the
image at a random place, and here in the middle.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from PIL import Image

PATCH_CODES = 2
"""Widths and heights are multiples of so many codes: of 32 pixels in the released model."""

_RATIO = 4.0
"""The largest ratio of the sides."""


@lru_cache
def sizes(side: int, patch: int) -> tuple[tuple[int, int], ...]:
    """(width, height) of all images with about the area of a square of ``side`` pixels.

    The side is a multiple of the patch, and so are the widths and heights.
    """
    assert side in range(patch, side + 1, patch), "settings of sizes are checked where they are read"
    patches = (side // patch) ** 2
    found = []
    wide, high = patches, 1
    while wide > 0:
        if max(wide, high) <= _RATIO * min(wide, high):
            found.append((wide * patch, high * patch))
        if (high + 1) * wide <= patches:
            high += 1
        else:
            wide -= 1
    return tuple(found)


def nearest_size(width: int, height: int, allowed: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The allowed (width, height) whose ratio is nearest; among equally near ones the widest."""

    def nearness(size: tuple[int, int]) -> float:
        across, down = size[0] / width, size[1] / height
        return min(across, down) / max(across, down)

    return max(allowed, key=lambda size: (nearness(size), size))


def fit(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """An RGB image scaled to cover (width, height) and cut in the middle."""
    image = image.convert("RGB")
    width, height = size
    while image.width >= 2 * width and image.height >= 2 * height:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = max(width / image.width, height / image.height)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))

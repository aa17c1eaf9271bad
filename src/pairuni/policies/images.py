"""Several images as one, for policies that take a single image."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image


def side_by_side(images: Sequence[Image.Image]) -> Image.Image:
    """RGB images from left to right, scaled to the height of the tallest; a single image is returned unchanged."""
    if len(images) == 1:
        return images[0]
    height = max(image.height for image in images)
    scaled = [
        image.resize((max(1, round(image.width * height / image.height)), height), Image.Resampling.BICUBIC)
        for image in images
    ]
    row = Image.new("RGB", (sum(image.width for image in scaled), height))
    left = 0
    for image in scaled:
        row.paste(image, (left, 0))
        left += image.width
    return row

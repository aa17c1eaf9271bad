"""Several images as the one that a policy takes."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image


def side_by_side(pictures: Sequence[Image.Image]) -> Image.Image:
    """From left to right at the height of the tallest, none cropped; one RGB image alone is itself."""
    if len(pictures) == 1:
        return pictures[0]
    height = max(picture.height for picture in pictures)
    scaled = [
        picture.resize(
            (max(1, round(picture.width * height / picture.height)), height), Image.Resampling.BICUBIC
        )
        for picture in pictures
    ]
    row = Image.new("RGB", (sum(picture.width for picture in scaled), height))
    left = 0
    for picture in scaled:
        row.paste(picture, (left, 0))
        left += picture.width
    return row

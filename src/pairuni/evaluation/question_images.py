"""Images of questions: files, or bytes embedded in a data set."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image

from pairuni.io.images import ImageError, load_image
from pairuni.policies.images import side_by_side
from pairuni.policies.requests import QuestionImages

ImageSource = Path | bytes
"""An image's file, or its bytes."""


def question_images(images: Sequence[ImageSource], *, joined: bool) -> QuestionImages:
    """What a question shows: its RGB images, or if ``joined`` those of ``one_image``. Raises as it does."""
    if joined or len(images) < 2:
        return one_image(images)
    return [_load(image) for image in images]


def one_image(images: Sequence[ImageSource]) -> Image.Image | None:
    """The one RGB image for a policy that takes one; None for a question about text alone.

    Several images are joined from left to right. Raises ValueError naming a file that cannot be read.
    """
    loaded = [_load(image) for image in images]
    return side_by_side(loaded) if loaded else None


def _load(image: ImageSource) -> Image.Image:
    try:
        return load_image(image)
    except ImageError as error:
        raise ImageError(error.reason, error.path or "an image of the data set") from None


def png_bytes(image: Image.Image) -> bytes:
    """An image as a PNG file."""
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def check_images(images: Sequence[Path], where: str) -> None:
    """Raise FileNotFoundError naming the first missing image, the number of missing ones, and where to get them."""
    missing = [path for path in dict.fromkeys(images) if not path.is_file()]
    if missing:
        total = len(set(images))
        raise FileNotFoundError(
            f"{missing[0]}: no such image ({len(missing):,} of {total:,} are missing); {where}"
        )

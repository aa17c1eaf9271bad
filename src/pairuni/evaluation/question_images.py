"""Images of questions: in files or as a data set's bytes, several of them side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from pairuni.io.images import ImageError, load_image
from pairuni.policies.images import side_by_side

Picture = Path | bytes
"""An image's file, or the bytes of one."""


def one_image(pictures: Sequence[Picture]) -> Image.Image | None:
    """The one RGB image that a policy takes, None for a question about text alone.

    Several stand side by side. Raises ValueError naming a file that cannot be read.
    """
    opened = [_opened(picture) for picture in pictures]
    return side_by_side(opened) if opened else None


def _opened(picture: Picture) -> Image.Image:
    try:
        return load_image(picture)
    except ImageError as error:
        raise ImageError(error.reason, error.path or "an image of the data set") from None


def check_images(pictures: Sequence[Path], where: str) -> None:
    """Raises FileNotFoundError naming the first image that is missing, how many are, and ``where`` to get them."""
    missing = [path for path in dict.fromkeys(pictures) if not path.is_file()]
    if missing:
        total = len(set(pictures))
        raise FileNotFoundError(
            f"{missing[0]}: no such image ({len(missing):,} of {total:,} are missing); {where}"
        )

"""Pictures of questions: in files or as a data set's bytes, several of them side by side."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image

Picture = Path | bytes
"""A picture's file, or the bytes of one."""


def one_picture(pictures: Sequence[Picture]) -> Image.Image | None:
    """The one RGB picture that a policy takes, None for a question about text alone.

    Several stand side by side, from left to right at the height of the tallest, none cropped. Raises ValueError
    naming a file that cannot be read.
    """
    opened = [open_picture(picture) for picture in pictures]
    if len(opened) <= 1:
        return opened[0] if opened else None
    height = max(picture.height for picture in opened)
    scaled = [
        picture.resize(
            (max(1, round(picture.width * height / picture.height)), height), Image.Resampling.BICUBIC
        )
        for picture in opened
    ]
    row = Image.new("RGB", (sum(picture.width for picture in scaled), height))
    left = 0
    for picture in scaled:
        row.paste(picture, (left, 0))
        left += picture.width
    return row


def open_picture(picture: Picture) -> Image.Image:
    """The picture as RGB. Raises ValueError naming the file when it cannot be read."""
    try:
        with Image.open(picture if isinstance(picture, Path) else BytesIO(picture)) as file:
            return file.convert("RGB")
    except (OSError, Image.DecompressionBombError) as error:
        name = picture if isinstance(picture, Path) else "a picture of the data set"
        raise ValueError(f"{name}: not a picture that can be read ({error})") from None


def check_pictures(pictures: Sequence[Path], where: str) -> None:
    """Raises FileNotFoundError naming the first picture that is missing, how many are, and ``where`` to get them."""
    missing = [path for path in dict.fromkeys(pictures) if not path.is_file()]
    if missing:
        total = len(set(pictures))
        raise FileNotFoundError(
            f"{missing[0]}: no such picture ({len(missing):,} of {total:,} are missing); {where}"
        )

"""Pictures of questions: in files or as a data set's bytes, several of them side by side."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image

from pairuni.policies.pictures import side_by_side
from pairuni.rgb import as_rgb

Picture = Path | bytes
"""A picture's file, or the bytes of one."""


def one_picture(pictures: Sequence[Picture]) -> Image.Image | None:
    """The one RGB picture that a policy takes, None for a question about text alone.

    Several stand side by side. Raises ValueError naming a file that cannot be read.
    """
    opened = [open_picture(picture) for picture in pictures]
    return side_by_side(opened) if opened else None


def open_picture(picture: Picture) -> Image.Image:
    """The picture as RGB. Raises ValueError naming the file when it cannot be read."""
    try:
        with Image.open(picture if isinstance(picture, Path) else BytesIO(picture)) as file:
            return as_rgb(file)
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

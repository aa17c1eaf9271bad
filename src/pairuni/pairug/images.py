"""Images of a data set: paths relative to its file, inside its folder, whole and of sane size."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, UnidentifiedImageError

MOST_PIXELS = 89_478_485
"""PIL's own limit against decompression bombs: a quarter gigabyte of RGB."""


def image_fault(folder: Path, image_path: str) -> str | None:
    """What is wrong with an image of the data set in ``folder``; None when it opens whole.

    Refused: an absolute path, one that leaves the folder (through a link too), a missing, cut off or
    undecodable file, and a picture of more than MOST_PIXELS, which is not decoded to find out.
    """
    path = Path(image_path)
    if path.is_absolute():
        return f"the image path {image_path} is absolute; it must be relative to the file"
    if not (folder / path).resolve().is_relative_to(folder.resolve()):
        return f"the image {image_path} lies outside the file's folder"
    if not (folder / path).is_file():
        return f"the image {image_path} is missing"
    try:
        with Image.open(folder / path) as image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                return f"the image {image_path} is absurdly large ({width}x{height} pixels)"
            image.load()
    except Image.DecompressionBombError:
        return f"the image {image_path} is absurdly large"
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        return f"the image {image_path} cannot be read ({error})"
    return None


def open_image(folder: Path, image_path: str) -> Image.Image:
    """The decoded RGB image. Raises ValueError with ``image_fault``'s words."""
    fault = image_fault(folder, image_path)
    if fault is not None:
        raise ValueError(f"{folder}: {fault}")
    with Image.open(folder / image_path) as image:
        return image.convert("RGB")

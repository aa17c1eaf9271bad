"""Images of a data set: paths relative to its file, inside its folder, whole and of sane size."""

from __future__ import annotations

import warnings
from io import BytesIO
from pathlib import Path, PurePosixPath, PureWindowsPath

from PIL import Image

from pairuni.rgb import as_rgb

MOST_PIXELS = 89_478_485
"""PIL's own limit against decompression bombs: a quarter gigabyte of RGB."""


class ImageError(ValueError):
    """Why an image cannot be used, as the end of a sentence that begins with its name."""


def path_fault(folder: Path, image_path: str) -> str | None:
    """Why ``image_path`` must not be followed from ``folder``: absolute, or leaving it (by a link too)."""
    if "\0" in image_path:
        return "holds a NUL character"
    windows = PureWindowsPath(image_path)
    if PurePosixPath(image_path).is_absolute() or windows.drive or windows.root:
        return "is absolute; it must be relative to the file"
    try:
        inside = (folder / image_path).resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError) as error:
        return f"cannot be followed ({error})"
    return None if inside else "lies outside the file's folder"


def image_fault(folder: Path, image_path: str) -> str | None:
    """What is wrong with an image of the data set in ``folder``; None when it opens whole."""
    fault = path_fault(folder, image_path)
    if fault is not None:
        return fault
    try:
        decode_image(read_bytes(folder / image_path))
    except ImageError as error:
        return str(error)
    return None


def read_bytes(path: Path) -> bytes:
    """The file's bytes. Raises ImageError when it is missing or cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ImageError("is missing") from None
    except OSError as error:
        raise ImageError(f"cannot be read ({error.strerror})") from None


def decode_image(data: bytes) -> Image.Image:
    """The whole RGB image.

    Raises ImageError when the bytes are no image, are cut off, or promise more than MOST_PIXELS: that is
    read from the header, before anything is decoded.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(BytesIO(data))
        width, height = image.size
        if width * height <= MOST_PIXELS:
            return as_rgb(image)
    except Image.DecompressionBombError:
        raise ImageError(
            f"is absurdly large (more than {2 * MOST_PIXELS:,} pixels; at most {MOST_PIXELS:,})"
        ) from None
    except Image.UnidentifiedImageError:
        raise ImageError("is not an image that can be read") from None
    except MemoryError:
        raise
    except Exception as error:  # whatever the plug-in of a format raises, down to RuntimeError and KeyError
        raise ImageError(f"cannot be decoded ({error})") from None
    raise ImageError(f"is absurdly large ({width}x{height} pixels; at most {MOST_PIXELS:,})")

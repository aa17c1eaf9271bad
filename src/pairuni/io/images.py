"""Loading images: the only place in the package that calls ``PIL.Image.open``.

Image files may come from anyone: formats are detected by content, sizes are bounded, only regular files are opened,
and every failure is an ImageError. Formats that run programs (PostScript) or have rarely used decoders are refused.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Literal

from PIL import Image, ImageFile

from pairuni.io.files import read_regular
from pairuni.io.rgb import flattened, orientation_of
from pairuni.io.text import first_line

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
"""Pillow's names of the formats that are read; JPEG includes JFIF and MPO, PPM all of Netpbm."""

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
)
"""File name suffixes of images, in lower case."""

MOST_PIXELS = 89_478_485
"""Pillow's limit against decompression bombs: a quarter gigabyte of RGB."""

MOST_BYTES = 1 << 28
"""Limit for an image file: a BMP of MOST_PIXELS."""

Trait = Literal["transparency", "orientation", "frames"]
"""What conversion to RGB changes: transparency is laid over white, the orientation tag is applied, and only the first
frame is kept."""

_BEGINNINGS = (
    (b"\xff\xd8\xff", ".jpg"),
    (b"\x89PNG\r\n\x1a\n", ".png"),
    (b"GIF87a", ".gif"),
    (b"GIF89a", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
    (b"II+\0", ".tif"),
    (b"MM\0+", ".tif"),
    *((b"P%d%c" % (number, blank), ".ppm") for number in range(1, 7) for blank in b" \t\r\n"),
    (b"Pf\n", ".pfm"),
    (b"PF\n", ".pfm"),
)
_OTHERS = (
    (b"%!PS", "a PostScript file"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript file"),
    (b"%PDF", "a PDF file"),
    (b"8BPS", "a Photoshop file"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL image"),
    (b"<svg", "an SVG image"),
    (b"<?xml", "an XML file"),
)
_WEB_PAGE = "is a web page, not an image; download it again"
_NO_IMAGES = (
    (b"<!DOCTYPE", _WEB_PAGE),
    (b"<!doctype", _WEB_PAGE),
    (b"<html", _WEB_PAGE),
    (b"version https://git-lfs", "is a pointer of Git LFS, not an image; run git lfs pull"),
)
# large images raise TooManyPixels; the filter is set once, because warning filters are not thread-safe
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

_MIMES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
_LATE_METADATA = (b"eXIf", b"XML:com.adobe.xmp", b"Raw profile type exif")
"""Chunks of a PNG that hold an orientation and may come after the pixels."""
_LONGEST_REASON = 120


class ImageError(ValueError):
    """Why an image cannot be used. reason: a predicate, such as "is missing"; the name of the image precedes it."""

    def __init__(self, reason: str, path: Path | str | None = None) -> None:
        super().__init__(reason, path)  # both, so that the error can be pickled
        self.reason, self.path = reason, path

    def __str__(self) -> str:
        if self.path is None:
            return self.reason
        return f"{self.path}: cannot be read as an image (it {self.reason})"


class TooManyPixels(ImageError):
    """The header announces more pixels than the limit."""


@dataclass(frozen=True)
class Header:
    """The header of an image file, read before the pixels are decoded.

    size: width and height of the upright image. mime: MIME type if any other reader decodes the file to the same
    RGB image (8 bits, RGB or grey, opaque, upright, one frame), else None. alpha: pixels may be transparent.
    """

    size: tuple[int, int]
    mime: str | None
    alpha: bool
    traits: frozenset[Trait]


@dataclass(frozen=True)
class Decoded:
    """An RGB image, the header of its file, and what the conversion to RGB changed."""

    image: Image.Image
    header: Header
    traits: frozenset[Trait]


def load_image(source: Path | bytes, *, near: int | None = None) -> Image.Image:
    """The upright, opaque 8-bit RGB image of a file or of its bytes, fully decoded.

    near: wanted side in pixels; a JPEG may then be decoded at a fraction of its size. Raises ImageError, which names
    the file if ``source`` is a path.
    """
    if isinstance(source, bytes):
        return decode(source, near=near).image
    try:
        return decode(read_bytes(source), near=near).image
    except ImageError as error:
        raise ImageError(error.reason, source) from None


def read_bytes(path: Path) -> bytes:
    """The bytes of an image file. Raises ImageError (without path) if missing, not a regular file or too large."""
    try:
        return read_regular(path, most=MOST_BYTES)
    except FileNotFoundError:
        raise ImageError("is missing") from None
    except OSError as error:
        raise ImageError(f"cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise ImageError(f"cannot be read ({error})") from None


def decode(
    data: bytes,
    *,
    formats: tuple[str, ...] = FORMATS,
    most_pixels: int = MOST_PIXELS,
    near: int | None = None,
) -> Decoded:
    """Decode an image file and convert it as ``as_rgb`` does.

    Raises ImageError (without path) for bytes that are truncated, damaged or not in one of ``formats``, and
    TooManyPixels, before decoding, if the header announces more than ``most_pixels``.
    """
    with _opened(data, formats, most_pixels) as opened:
        if opened.format == "PNG":
            opened.load()  # the orientation may come after the pixels
        orientation = orientation_of(opened)
        header = _header(opened, data, orientation)
        if near is not None:
            opened.draft("RGB", (near, near))
        # Pillow applies the orientation of a TIFF itself
        image, transparent = flattened(opened, orientation=1 if opened.format == "TIFF" else orientation)
        if image is opened:
            # the readers of WebP and AVIF keep their canvases; profiles and tags no longer apply to the pixels
            image = opened.copy() if opened.format in ("WEBP", "AVIF") else image
            image.info = {}
        over_white: frozenset[Trait] = frozenset({"transparency"} if transparent else ())
        return Decoded(image, header, header.traits | over_white)


def read_header(data: bytes) -> Header:
    """The header of an image file; the pixels are not checked. Raises ImageError (without path)."""
    with _opened(data, FORMATS, MOST_PIXELS) as opened:
        if opened.format == "PNG" and any(mark in data for mark in _LATE_METADATA):
            opened.load()
        return _header(opened, data, orientation_of(opened))


def traits_of(data: bytes) -> frozenset[Trait]:
    """The traits of an image file, which is decoded only if the header does not tell. Raises ImageError."""
    header = read_header(data)
    return decode(data).traits if header.alpha else header.traits


def suffix_of(data: bytes) -> str | None:
    """The file name suffix for an image's first bytes; None if they are not those of an image."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ".webp"
    if data[4:12] in (b"ftypavif", b"ftypavis"):
        return ".avif"
    return next((suffix for beginning, suffix in _BEGINNINGS if data.startswith(beginning)), None)


@contextmanager
def _opened(data: bytes, formats: tuple[str, ...], most_pixels: int) -> Iterator[ImageFile.ImageFile]:
    """The image before decoding. Errors of Pillow's plug-ins, here or in the block, become ImageError."""
    try:
        image = Image.open(BytesIO(data), formats=_readable(formats))
        width, height = image.size
        if width * height > most_pixels:
            raise TooManyPixels(f"is too large ({width}x{height} pixels; at most {most_pixels:,})")
        yield image
    except (ImageError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise TooManyPixels(
            f"is too large (more than {2 * MOST_PIXELS:,} pixels; at most {most_pixels:,})"
        ) from None
    except Image.UnidentifiedImageError:
        raise ImageError(_unreadable(data)) from None
    except Exception as error:  # plug-ins raise anything, even SyntaxError and KeyError
        raise ImageError(f"cannot be decoded ({first_line(error)[:_LONGEST_REASON]})") from None


def _unreadable(data: bytes) -> str:
    start = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    if data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypmsf1"):
        return "is a HEIC image, which is not supported; save it as JPEG or PNG"
    for beginning, reason in _NO_IMAGES:
        if start.startswith(beginning):
            return reason
    for beginning, name in _OTHERS:
        if start.startswith(beginning):
            return f"is {name}, which is not supported; save it as JPEG or PNG"
    return "is not a supported image"


@cache
def _readable(formats: tuple[str, ...]) -> tuple[str, ...]:
    """The formats that this build of Pillow can read. Pillow raises for other names."""
    Image.init()
    return tuple(name for name in formats if name in Image.OPEN)


def _header(opened: ImageFile.ImageFile, data: bytes, orientation: int) -> Header:
    traits = set[Trait]()
    width, height = opened.size
    if opened.format != "MPO" and getattr(opened, "is_animated", False):
        traits.add("frames")  # further images of an MPO are a depth map or the other eye of a stereo pair
    if orientation != 1:
        traits.add("orientation")
    if orientation >= 5 and opened.format != "TIFF":  # the size of a TIFF is that of the upright image
        width, height = height, width
    alpha = opened.has_transparency_data
    deep = opened.format == "PNG" and data[24] > 8
    plain = opened.mode in ("RGB", "L") and not (traits or alpha or deep)
    mime = _MIMES.get(opened.format or "") if plain else None
    return Header((width, height), mime, alpha, frozenset(traits))

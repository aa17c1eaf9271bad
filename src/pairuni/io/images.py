"""The one opener of images: formats by content, regular files, bounded bytes and pixels, one kind of error.

Every image of the project comes through here, also those of strangers. No format is read that runs programs
(PostScript) or whose readers are little used.
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

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
"""As Pillow calls them; JPEG includes JFIF and MPO, PPM all of Netpbm."""

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
)
"""What the name of an image ends in, in lower case."""

MOST_PIXELS = 89_478_485
"""Pillow's own limit against decompression bombs: a quarter gigabyte of RGB."""

MOST_BYTES = 1 << 28
"""Of an image's file: a BMP of MOST_PIXELS."""

Trait = Literal["transparency", "orientation", "frames"]
"""What the RGB image of a file leaves out: it is laid over white, turned upright, the first of several frames."""

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
_NO_IMAGES = (
    (b"<!DOCTYPE", "is a web page, not an image; download it again"),
    (b"<!doctype", "is a web page, not an image; download it again"),
    (b"<html", "is a web page, not an image; download it again"),
    (b"version https://git-lfs", "is a pointer of Git LFS, not an image; run git lfs pull"),
)
# such an image is refused in a sentence; silenced once, as no thread can silence a warning for itself alone
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

_MIMES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
_LATE_METADATA = (b"eXIf", b"XML:com.adobe.xmp", b"Raw profile type exif")
"""Marks of an orientation in a PNG, which may stand behind the pixels."""
_LONGEST_REASON = 120


class ImageError(ValueError):
    """Why an image cannot be used. reason: the end of a sentence that begins with the image's name."""

    def __init__(self, reason: str, path: Path | str | None = None) -> None:
        super().__init__(reason, path)  # both, so that it survives pickling
        self.reason, self.path = reason, path

    def __str__(self) -> str:
        if self.path is None:
            return self.reason
        return f"{self.path}: not an image that can be read (it {self.reason})"


class TooManyPixels(ImageError):
    """The header promises more pixels than are decoded."""


@dataclass(frozen=True)
class Header:
    """What a file says of its image before its pixels are decoded.

    size: width and height of the upright image. mime: MIME type of a file that any reader shows as the image
    that is trained on (8 bits, RGB or grey, opaque, upright, a single frame); None for every other.
    alpha: whether pixels may be transparent.
    """

    size: tuple[int, int]
    mime: str | None
    alpha: bool
    traits: frozenset[Trait]


@dataclass(frozen=True)
class Decoded:
    """An image in RGB, its header as the file has it, and what the RGB leaves out."""

    image: Image.Image
    header: Header
    traits: frozenset[Trait]


def read_bytes(path: Path) -> bytes:
    """The file's bytes. Raises ImageError (without name) when it is missing, no regular file, or too large."""
    try:
        return read_regular(path, most=MOST_BYTES)
    except FileNotFoundError:
        raise ImageError("is missing") from None
    except OSError as error:
        raise ImageError(f"cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise ImageError(f"cannot be read ({error})") from None


def load_image(path: Path, *, near: int | None = None) -> Image.Image:
    """The whole RGB image of a file. Raises ImageError naming it.

    near: the image is wanted with sides of about so many pixels, so that a JPEG may be decoded at a fraction.
    """
    try:
        return decode(read_bytes(path), near=near).image
    except ImageError as error:
        raise ImageError(error.reason, path) from None


def decode_image(data: bytes) -> Image.Image:
    """The whole RGB image. Raises ImageError as ``decode`` does."""
    return decode(data).image


def decode(
    data: bytes,
    *,
    formats: tuple[str, ...] = FORMATS,
    most_pixels: int = MOST_PIXELS,
    near: int | None = None,
) -> Decoded:
    """The whole image as ``as_rgb`` makes it.

    Raises ImageError (without name) when the bytes are no image of ``formats``, are cut off or damaged, and
    TooManyPixels when they promise more than ``most_pixels``: that is read from the header, before anything is
    decoded.
    """
    with _opened(data, formats, most_pixels) as opened:
        if opened.format == "PNG":
            opened.load()  # the orientation may stand behind the pixels
        orientation = orientation_of(opened)
        header = _header(opened, data, orientation)
        if near is not None:
            opened.draft("RGB", (near, near))
        # Pillow turns a TIFF itself
        image, transparent = flattened(opened, orientation=1 if opened.format == "TIFF" else orientation)
        if image is opened:
            # WebP's and AVIF's readers keep their canvases; a profile or tag of the file describes other pixels
            image = opened.copy() if opened.format in ("WEBP", "AVIF") else image
            image.info = {}
        over_white: frozenset[Trait] = frozenset({"transparency"} if transparent else ())
        return Decoded(image, header, header.traits | over_white)


def read_header(data: bytes) -> Header:
    """What the file says of its image. Raises ImageError (without name); that the pixels are whole is not checked."""
    with _opened(data, FORMATS, MOST_PIXELS) as opened:
        if opened.format == "PNG" and any(mark in data for mark in _LATE_METADATA):
            opened.load()
        return _header(opened, data, orientation_of(opened))


def traits_of(data: bytes) -> frozenset[Trait]:
    """What the RGB image of a file leaves out; decoded only where the header does not tell. Raises ImageError."""
    header = read_header(data)
    return decode(data).traits if header.alpha else header.traits


def suffix_of(data: bytes) -> str | None:
    """The suffix that an image's first bytes call for; None for what begins as no image."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ".webp"
    if data[4:12] in (b"ftypavif", b"ftypavis"):
        return ".avif"
    return next((suffix for beginning, suffix in _BEGINNINGS if data.startswith(beginning)), None)


@contextmanager
def _opened(data: bytes, formats: tuple[str, ...], most_pixels: int) -> Iterator[ImageFile.ImageFile]:
    """Pillow's image with its pixels still to decode; what its plug-ins raise here or in the block is ImageError."""
    try:
        image = Image.open(BytesIO(data), formats=_readable(formats))
        width, height = image.size
        if width * height > most_pixels:
            raise TooManyPixels(f"is absurdly large ({width}x{height} pixels; at most {most_pixels:,})")
        yield image
    except (ImageError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise TooManyPixels(
            f"is absurdly large (more than {2 * MOST_PIXELS:,} pixels; at most {most_pixels:,})"
        ) from None
    except Image.UnidentifiedImageError:
        raise ImageError(_unreadable(data)) from None
    except Exception as error:  # whatever the plug-in of a format raises, down to SyntaxError and KeyError
        reason = (str(error).splitlines() or [type(error).__name__])[0][:_LONGEST_REASON]
        raise ImageError(f"cannot be decoded ({reason})") from None


def _unreadable(data: bytes) -> str:
    start = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    if data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypmsf1"):
        return "is a HEIC image, which is not read; save it as JPEG or PNG"
    for beginning, reason in _NO_IMAGES:
        if start.startswith(beginning):
            return reason
    for beginning, name in _OTHERS:
        if start.startswith(beginning):
            return f"is {name}, not an image that is read; save it as JPEG or PNG"
    return "is not an image that can be read"


@cache
def _readable(formats: tuple[str, ...]) -> tuple[str, ...]:
    """Those that this Pillow has a reader for: a name without one is an error to it."""
    Image.init()
    return tuple(name for name in formats if name in Image.OPEN)


def _header(opened: ImageFile.ImageFile, data: bytes, orientation: int) -> Header:
    traits = set[Trait]()
    width, height = opened.size
    if opened.format != "MPO" and getattr(opened, "is_animated", False):
        traits.add("frames")  # further images of an MPO are its depth or the other eye's
    if orientation != 1:
        traits.add("orientation")
    if orientation >= 5 and opened.format != "TIFF":  # whose size is that of the upright image
        width, height = height, width
    alpha = opened.has_transparency_data
    deep = opened.format == "PNG" and data[24] > 8
    plain = opened.mode in ("RGB", "L") and not (traits or alpha or deep)
    return Header(
        (width, height), _MIMES.get(opened.format or "") if plain else None, alpha, frozenset(traits)
    )

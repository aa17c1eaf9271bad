"""Conversion of any image to the 8-bit RGB that models take: upright and opaque."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TAGS = frozenset({"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"})
"""Keys of ``Image.info`` that may hold an orientation; a TIFF has separate tags."""


def as_rgb(image: Image.Image, *, drop_alpha: bool = False) -> Image.Image:
    """The image in 8-bit RGB, with its orientation tag applied and transparent parts laid over white.

    16-bit grey keeps its upper byte. 32-bit integers and floats have no defined range, so their values decide:
    0 to 1 is multiplied by 255; integers up to 255 stay; integers up to 65535 keep their upper byte; anything else
    is stretched so that the minimum becomes 0 and the maximum 255. An animation gives its first frame. An image that
    is already RGB, opaque and upright is returned itself. Raises ValueError for values that are not finite.

    drop_alpha: ignore the alpha channel and keep the stored colours, as CLIP-based scorers do.
    """
    return flattened(image, drop_alpha=drop_alpha)[0]


def flattened(
    image: Image.Image, *, drop_alpha: bool = False, orientation: int | None = None
) -> tuple[Image.Image, bool]:
    """``as_rgb(image)``, and whether any pixel is transparent. orientation: the tag's value, if known."""
    image.load()
    turn = _TURNS.get(orientation_of(image) if orientation is None else orientation)
    rgb, transparent = _in_rgb(image, drop_alpha)
    if turn is not None:
        rgb = rgb.transpose(turn)
    if rgb is not image:
        rgb.info = {}  # a copy of the orientation tag would turn the image a second time
    return rgb, transparent


def orientation_of(image: Image.Image) -> int:
    """The orientation tag in EXIF or XMP, 1 to 8; 1 (upright) if there is none or it is unreadable."""
    if _TAGS.isdisjoint(image.info) and not hasattr(image, "tag_v2"):
        return 1
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged metadata may raise anything; the pixels may still be valid
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _in_rgb(image: Image.Image, drop_alpha: bool) -> tuple[Image.Image, bool]:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _from_numbers(image)
    if image.has_transparency_data:
        rgba = _rgba(image)
        return (rgba.convert("RGB"), False) if drop_alpha else _over_white(rgba)
    return image if image.mode == "RGB" else image.convert("RGB"), False


def _rgba(image: Image.Image) -> Image.Image:
    key = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(key, tuple) and max(key) > 255:
        # the transparent colour of a 48-bit PNG has 16 bits a channel; Pillow keeps the upper 8 of the pixels
        image = image.copy()
        image.info["transparency"] = tuple(value >> 8 for value in key)
    if image.mode == "La":
        image = image.convert("LA")
    return image if image.mode == "RGBA" else image.convert("RGBA")


def _over_white(rgba: Image.Image) -> tuple[Image.Image, bool]:
    alpha = rgba.getchannel("A")
    if alpha.getextrema()[0] == 255:
        return rgba.convert("RGB"), False
    white = Image.new("RGB", rgba.size, "white")
    white.paste(rgba, mask=alpha)
    return white, True


def _from_numbers(image: Image.Image) -> tuple[Image.Image, bool]:
    values = np.asarray(image)
    if image.mode.startswith("I;16"):
        twelve_bits = getattr(image, "tag_v2", {}).get(ExifTags.Base.BitsPerSample) == (12,)
        grey = (values.astype(np.uint16) >> (4 if twelve_bits else 8)).astype(np.uint8)
    elif image.mode == "I" and image.format == "PPM":
        grey = (values >> 8).astype(np.uint8)  # Pillow scales any PPM to 16 bits
    else:
        grey = _to_eight_bits(values)
    key = image.info.get("transparency")
    hidden = values == key if isinstance(key, int) else np.zeros(values.shape, bool)
    return Image.fromarray(np.where(hidden, np.uint8(255), grey)).convert("RGB"), bool(hidden.any())


def _to_eight_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise ValueError("it contains values that are not finite")
    if low >= 0 and high <= 1:
        return np.rint(values * 255.0).astype(np.uint8)
    integers = values.dtype.kind in "iu" or bool((values == np.rint(values)).all())
    if low >= 0 and high <= 65535 and integers:
        return (values if high <= 255 else values // 256).astype(np.uint8)
    if low == high:
        return np.full(values.shape, 255 if high > 0 else 0, np.uint8)
    return np.rint((values - low) * (255.0 / (high - low))).astype(np.uint8)

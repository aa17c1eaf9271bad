"""One way from any image to the 8-bit RGB that models take: upright, opaque, of the usual range."""

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
"""Where Pillow keeps what may hold an orientation, but for TIFF, whose own tags do."""
_TWELVE_BITS = 12


def as_rgb(image: Image.Image, *, drop_alpha: bool = False) -> Image.Image:
    """The whole image in 8-bit RGB, turned upright by its orientation tag and laid over white where transparent.

    16-bit grey keeps its upper byte. 32-bit integers and floats have no range of their own, so their values decide:
    0 to 1 is multiplied by 255; whole numbers up to 255 stay; whole numbers up to 65535 keep their upper byte;
    of anything else the least value becomes 0 and the greatest 255. An animation gives its first frame.
    An image that is RGB, opaque and upright is returned itself. Raises ValueError for values that are not finite.

    drop_alpha: transparent parts keep the colour that is stored for them, as the scorers of images were made with.
    """
    return flattened(image, drop_alpha=drop_alpha)[0]


def flattened(
    image: Image.Image, *, drop_alpha: bool = False, orientation: int | None = None
) -> tuple[Image.Image, bool]:
    """``as_rgb(image)``, and whether white shows through somewhere. orientation: where it is known."""
    image.load()
    turn = _TURNS.get(orientation_of(image) if orientation is None else orientation)
    rgb, transparent = _in_rgb(image, drop_alpha)
    if turn is not None:
        rgb = rgb.transpose(turn)
    if rgb is not image:
        rgb.info = {}  # of the old mode and orientation; the latter would turn the image a second time
    return rgb, transparent


def orientation_of(image: Image.Image) -> int:
    """The orientation tag in EXIF or XMP, 1 to 8; 1 (upright) when there is none or it cannot be read."""
    if _TAGS.isdisjoint(image.info) and not hasattr(image, "tag_v2"):
        return 1
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged metadata of every kind: the image itself may be whole
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _in_rgb(image: Image.Image, drop_alpha: bool) -> tuple[Image.Image, bool]:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _from_numbers(image)
    if image.has_transparency_data:
        return (_opaque(image), False) if drop_alpha else _over_white(image)
    return image if image.mode == "RGB" else image.convert("RGB"), False


def _opaque(image: Image.Image) -> Image.Image:
    return _rgba(image).convert("RGB")


def _rgba(image: Image.Image) -> Image.Image:
    image = _with_shallow_key(image)
    if image.mode == "La":
        image = image.convert("LA")
    return image if image.mode == "RGBA" else image.convert("RGBA")


def _over_white(image: Image.Image) -> tuple[Image.Image, bool]:
    rgba = _rgba(image)
    alpha = rgba.getchannel("A")
    if alpha.getextrema()[0] == 255:
        return rgba.convert("RGB"), False
    white = Image.new("RGB", rgba.size, "white")
    white.paste(rgba, mask=alpha)
    return white, True


def _with_shallow_key(image: Image.Image) -> Image.Image:
    """With a transparent colour of 8 bits: that of a 48-bit PNG has 16, of which the pixels kept the upper 8."""
    key = image.info.get("transparency")
    if image.mode != "RGB" or not isinstance(key, tuple) or max(key) <= 255:
        return image
    image = image.copy()
    image.info["transparency"] = tuple(value >> 8 for value in key)
    return image


def _from_numbers(image: Image.Image) -> tuple[Image.Image, bool]:
    values = np.asarray(image)
    if image.mode.startswith("I;16"):
        grey = (values.astype(np.uint16) >> (4 if _has_twelve_bits(image) else 8)).astype(np.uint8)
    elif image.mode == "I" and image.format == "PPM":
        grey = (values >> 8).astype(np.uint8)  # its reader scales to 16 bits whatever the file's maximum
    else:
        grey = _in_eight_bits(values)
    key = image.info.get("transparency")
    if isinstance(key, int) and (hidden := values == key).any():
        grey = np.where(hidden, np.uint8(255), grey)
        return Image.fromarray(grey).convert("RGB"), True
    return Image.fromarray(grey).convert("RGB"), False


def _in_eight_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise ValueError("it holds values that are not finite")
    if low >= 0 and high <= 1:
        return np.rint(values * 255.0).astype(np.uint8)
    if low >= 0 and high <= 65535 and _are_whole(values):
        return (values if high <= 255 else values // 256).astype(np.uint8)
    if low == high:
        return np.full(values.shape, 255 if high > 0 else 0, np.uint8)
    return np.rint((values - low) * (255.0 / (high - low))).astype(np.uint8)


def _are_whole(values: NDArray[Any]) -> bool:
    return values.dtype.kind in "iu" or bool((values == np.rint(values)).all())


def _has_twelve_bits(image: Image.Image) -> bool:
    tags = getattr(image, "tag_v2", {})
    return tags.get(ExifTags.Base.BitsPerSample) == (_TWELVE_BITS,)

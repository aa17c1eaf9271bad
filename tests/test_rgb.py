"""Every image mode becomes the RGB that a person would see: upright, over white, with its own range of values."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pairuni.io.rgb import as_rgb

GREY = np.arange(0, 256, 4, dtype=np.uint8).reshape(8, 8)
COLOURS = np.stack([GREY, GREY[::-1], GREY.T], axis=2)


def pixels(image: Image.Image) -> np.ndarray:
    rgb = as_rgb(image)
    assert rgb.mode == "RGB"
    return np.asarray(rgb)


def grey_of(image: Image.Image) -> list[int]:
    made = pixels(image)
    assert (made == made[..., :1]).all()
    return made[..., 0].ravel().tolist()


def test_a_plain_image_is_itself():
    image = Image.fromarray(COLOURS)
    assert as_rgb(image) is image


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "YCbCr", "HSV", "LAB", "RGBX"])
def test_opaque_modes_keep_their_colours(mode):
    source = Image.fromarray(GREY) if mode in ("L", "1") else Image.fromarray(COLOURS)
    if mode == "LAB":
        white = Image.new("LAB", (2, 1), (255, 128, 128))
        white.putpixel((1, 0), (0, 128, 128))
        assert np.abs(pixels(white).astype(int) - [[[255] * 3, [0] * 3]]).max() <= 2
        return
    converted = source.convert(mode)
    wanted = np.asarray(converted.convert("RGB"))
    assert (pixels(converted) == wanted).all()
    if mode in ("CMYK", "YCbCr", "HSV", "RGBX"):
        assert np.abs(pixels(converted).astype(int) - COLOURS).max() <= 8


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "RGBa", "La"])
def test_an_alpha_channel_is_laid_over_white(mode):
    """Black on a transparent background stays black; half-transparent black becomes grey."""
    image = Image.new("RGBA", (3, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 255))
    image.putpixel((2, 0), (0, 0, 0, 128))
    converted = {
        "RGBA": lambda: image,
        "LA": lambda: image.convert("LA"),
        "PA": lambda: image.convert("PA"),
        "RGBa": lambda: image.convert("RGBa"),
        "La": lambda: image.convert("LA").convert("La"),
    }[mode]()
    assert converted.mode == mode
    assert grey_of(converted) == [255, 0, 127]


def test_transparency_can_be_ignored():
    image = Image.new("RGBA", (2, 1), (9, 9, 9, 0))
    keyed = Image.new("P", (2, 1))
    keyed.putpalette([9, 9, 9])
    keyed.info["transparency"] = b"\0"
    for given in (image, image.convert("LA"), image.convert("La"), keyed):
        wanted = given.convert("LA").convert("L") if given.mode == "La" else image.convert("L")
        assert np.asarray(as_rgb(given, drop_alpha=True))[..., 0].tolist() == np.asarray(wanted).tolist()


def test_an_opaque_alpha_channel_changes_nothing():
    image = Image.fromarray(COLOURS)
    opaque = image.copy()
    opaque.putalpha(255)
    assert (pixels(opaque) == COLOURS).all()


@pytest.mark.parametrize(
    ("mode", "key", "colours"),
    [
        ("L", 0, (0, 200)),
        ("RGB", (0, 0, 0), ((0, 0, 0), (200, 200, 200))),
        ("P", 0, (0, 1)),
        ("P", b"\0", (0, 1)),
    ],
)
def test_a_transparent_colour_is_laid_over_white(mode, key, colours):
    image = Image.new(mode, (2, 1))
    if mode == "P":
        image.putpalette([0, 0, 0, 200, 200, 200])
    for place, colour in enumerate(colours):
        image.putpixel((place, 0), colour)
    image.info["transparency"] = key
    assert grey_of(image) == [255, 200]


def test_a_transparent_grey_of_sixteen_bits():
    image = Image.fromarray(np.array([[0, 200 << 8]], np.uint16))
    image.info["transparency"] = 0
    assert grey_of(image) == [255, 200]


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (np.array([[0, 65535, 300]], np.uint16), [0, 255, 1]),
        (np.array([[0, 65535, 40_000]], np.int32), [0, 255, 156]),
        (np.array([[0, 255, 40]], np.int32), [0, 255, 40]),
        (np.array([[0, 1, 1]], np.int32), [0, 255, 255]),
        (np.array([[-100, 100, 0]], np.int32), [0, 255, 128]),
        (np.array([[0, 2_000_000, 1_000_000]], np.int32), [0, 255, 128]),
        (np.array([[0.0, 1.0, 0.5]], np.float32), [0, 255, 128]),
        (np.array([[0.0, 255.0, 40.0]], np.float32), [0, 255, 40]),
        (np.array([[0.0, 65535.0, 40_000.0]], np.float32), [0, 255, 156]),
        (np.array([[-1.0, 1.0, 0.0]], np.float32), [0, 255, 128]),
        (np.array([[0.0, 1.5, 0.75]], np.float32), [0, 255, 128]),
        (np.array([[0.0, 0.0, 0.0]], np.float32), [0, 0, 0]),
        (np.array([[7e4, 7e4, 7e4]], np.float32), [255, 255, 255]),
    ],
)
def test_numbers_of_more_than_eight_bits_are_scaled(values, wanted):
    made = grey_of(Image.fromarray(values))
    assert np.abs(np.array(made) - wanted).max() <= 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_without_end_are_refused(value):
    with pytest.raises(ValueError, match="not finite"):
        as_rgb(Image.fromarray(np.array([[0.0, value]], np.float32)))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_orientation_is_applied_once(orientation, mode, tmp_path):
    """All eight tags, defined in EXIF by the sides on which row 0 and column 0 are."""
    upright = np.asarray(Image.fromarray(COLOURS[:6]).convert(mode).convert("RGB"))
    stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: a.swapaxes(0, 1)[::-1],
        7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
        8: lambda a: a.swapaxes(0, 1)[:, ::-1],
    }[orientation](upright)
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).convert(mode).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        rgb = as_rgb(image)
        assert image.getexif().get(274) == orientation, "the caller's image is not changed"
    assert np.abs(np.asarray(rgb).astype(int) - upright).max() <= (8 if mode == "P" else 0)
    assert as_rgb(rgb) is rgb
    assert (np.asarray(as_rgb(rgb.convert("RGBA"))) == np.asarray(rgb)).all(), "not turned a second time"


def test_damaged_metadata_leaves_the_image_as_it_is():
    image = Image.fromarray(COLOURS)
    for exif in (b"", b"Exif\0\0II*\0\xff\xff\xff\xff", b"no exif at all"):
        image.info["exif"] = exif
        assert (pixels(image) == COLOURS).all()

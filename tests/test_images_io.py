"""Loading images: the formats that are read, the errors for all others, and that nothing else opens images."""

from __future__ import annotations

import ast
import os
import pickle
import socket
import struct
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, features

import pairuni
from pairuni.io import images
from pairuni.io.files import read_regular
from pairuni.io.images import ImageError, TooManyPixels, decode, load_image, read_bytes, read_header
from source_data import png_chunk, png_that_claims

NOISE = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
RGB = Image.fromarray(NOISE)
SMOOTH = Image.linear_gradient("L").resize((40, 24))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def exif(orientation: int) -> Image.Exif:
    made = Image.Exif()
    made[274] = orientation
    return made


def with_chunk(png: bytes, kind: bytes, content: bytes, *, last: bool = True) -> bytes:
    """A PNG with a further chunk, after the pixels or right after the header."""
    place = len(png) - 12 if last else 33
    return png[:place] + png_chunk(kind, content) + png[place:]


def test_nothing_else_in_the_package_opens_images():
    opening, root = [], Path(pairuni.__file__).parent
    texts = {path: path.read_text(encoding="utf-8") for path in root.rglob("*.py")}
    for path, text in texts.items():
        for node in ast.walk(ast.parse(text)) if "Image" in text and "open" in text else ():
            used = isinstance(node, ast.Attribute) and ast.unparse(node) in ("Image.open", "PIL.Image.open")
            imported = isinstance(node, ast.ImportFrom) and node.module == "PIL.Image"
            if used or (imported and {name.name for name in node.names} & {"open", "*"}):
                opening.append(path.relative_to(root).as_posix())
    assert opening == ["io/images.py"]


@pytest.mark.parametrize(
    ("kind", "suffix", "largest_error"),
    [
        *(("PNG", ".png", 0), ("BMP", ".bmp", 0), ("TIFF", ".tif", 0), ("PPM", ".ppm", 0)),
        *(("JPEG", ".jpg", 40), ("WEBP", ".webp", 40), ("GIF", ".gif", 40), ("AVIF", ".avif", 40)),
    ],
)
def test_formats_are_recognised_by_content(tmp_path, kind, suffix, largest_error):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    source = SMOOTH.convert("RGB") if largest_error else RGB
    data = encoded(source, kind)
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    image = load_image(path)
    assert (image.mode, image.size) == ("RGB", (40, 24))
    assert np.abs(np.asarray(image).astype(int) - np.asarray(source)).max() <= largest_error
    assert image.info == {}, "profiles and tags of the file are dropped"
    assert images.suffix_of(data) == suffix
    assert suffix in images.IMAGE_SUFFIXES


@pytest.mark.parametrize(
    "kind", ["EPS", "PDF", "JPEG2000", "ICNS", "ICO", "TGA", "DDS", "PCX", "SGI", "IM", "MPEG"]
)
def test_other_formats_are_refused(kind):
    data = b"\0\0\1\xb3" + bytes(64) if kind == "MPEG" else encoded(RGB.resize((32, 32)), kind)
    with pytest.raises(ImageError):
        decode(data)


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n"


@pytest.mark.parametrize(
    "data", [POSTSCRIPT, b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 32, 99) + bytes(22) + POSTSCRIPT]
)
def test_postscript_never_runs(tmp_path, monkeypatch, data):
    def started(*given: object, **also: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr("subprocess.Popen", started)
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ImageError, match=r"a\.png: cannot be read as an image \(it is a PostScript file"):
        load_image(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is not a supported image"),
        (b"hello", "is not a supported image"),
        (b"8BPS\0\1" + bytes(64), "a Photoshop file"),
        (b"\0\0\0\x18ftypheic" + bytes(64), "a HEIC image"),
        (b"\n<!DOCTYPE html><html></html>", "a web page"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG image"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "run git lfs pull"),
        (encoded(RGB, "PNG")[:60], "cannot be decoded"),
        (encoded(RGB, "PNG")[:-200], "cannot be decoded"),
    ],
)
def test_what_is_not_an_image_is_named(data, said):
    with pytest.raises(ImageError, match=said) as caught:
        decode(data)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_only_regular_files_are_read_without_blocking(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s.png"))
        for name, said in {
            "pipe.png": "is a named pipe, not a file",
            "folder.png": "is a folder, not a file",
            "s.png": "cannot be read",
            "none.png": "is missing",
            "folder.png/x.png": "is missing",
        }.items():
            with pytest.raises(ImageError, match=said):
                read_bytes(tmp_path / name)
    for device in ("/dev/zero", "/dev/tty", "/dev/stdin"):
        with pytest.raises(ImageError):
            read_bytes(Path(device))
    with pytest.raises(ImageError):
        load_image(Path("/proc/self/environ"))


def test_large_files_are_not_read(tmp_path, monkeypatch):
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(images.MOST_BYTES + 1)
    with pytest.raises(ImageError, match=r"has 268,435,457 bytes; at most 268,435,456 are read"):
        read_bytes(tmp_path / "large.png")
    (tmp_path / "small").write_bytes(b"12345")
    assert read_regular(tmp_path / "small", most=5) == b"12345"


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF", "PPM"])
def test_many_pixels_are_refused_before_decoding(monkeypatch, kind):
    data = encoded(SMOOTH, kind)

    def loaded(*given: object) -> None:
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", loaded)
    with pytest.raises(TooManyPixels, match=r"too large \(40x24 pixels; at most 900\)"):
        decode(data, most_pixels=900)
    monkeypatch.setattr(images, "MOST_PIXELS", 900)
    with pytest.raises(TooManyPixels):
        read_header(data)


@pytest.mark.parametrize(
    ("size", "said"),
    [((60_000, 60_000), "more than 178,956,970"), ((20_000, 5_000), "20000x5000 pixels; at most 89")],
)
def test_a_bomb_is_refused(size, said):
    with pytest.raises(TooManyPixels, match=said):
        decode(png_that_claims(*size))


def frames(kind: str) -> bytes:
    red, blue = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    lossless = {"lossless": True} if kind == "WEBP" else {}
    return encoded(red, kind, save_all=True, append_images=[blue], duration=50, **lossless)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_is_the_image_and_others_are_a_trait(kind):
    decoded = decode(frames(kind))
    assert decoded.traits == {"frames"}
    assert decoded.header.mime is None
    assert np.asarray(decoded.image).reshape(-1, 3).tolist() == [[255, 0, 0]] * 16


def test_a_second_image_of_a_camera_is_no_frame():
    data = encoded(RGB, "MPO", save_all=True, append_images=[RGB])
    decoded = decode(data)
    assert (decoded.traits, decoded.image.size) == (frozenset(), RGB.size)


def orientations() -> dict[str, bytes]:
    lying = Image.new("RGB", (4, 2), "white")
    xmp = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    made = {kind: encoded(lying, kind, exif=exif(6)) for kind in ("JPEG", "PNG", "WEBP", "TIFF", "MPO")}
    made["XMP"] = encoded(lying, "JPEG", xmp=xmp.encode())
    plain = encoded(lying, "PNG")
    made["after the pixels"] = with_chunk(plain, b"eXIf", exif(6).tobytes()[6:])
    made["XMP after the pixels"] = with_chunk(plain, b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp.encode())
    if features.check("avif"):
        made["AVIF"] = encoded(lying, "AVIF", exif=exif(6))
    return made


@pytest.mark.parametrize("name", orientations())
def test_images_are_upright_and_headers_say_so(name):
    data = orientations()[name]
    decoded = decode(data)
    assert decoded.image.size == (2, 4) == read_header(data).size
    assert decoded.traits == {"orientation"} == images.traits_of(data)
    assert decoded.header.mime is None is read_header(data).mime


def transparent() -> dict[str, bytes]:
    disc = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    disc.paste((0, 0, 0, 255), (1, 1, 3, 3))
    grey = Image.fromarray(np.asarray(disc.getchannel("A").point(lambda one: 9 if one else 0)))
    made = {
        "PNG": encoded(disc, "PNG"),
        "WEBP": encoded(disc, "WEBP", lossless=True),
        "TIFF": encoded(disc, "TIFF"),
        "GIF": encoded(disc, "GIF"),
        "LA": encoded(disc.convert("LA"), "PNG"),
        "palette": encoded(disc.quantize(), "PNG"),
        "grey key": encoded(grey, "PNG", transparency=0),
        "colour key": encoded(grey.convert("RGB"), "PNG", transparency=(0, 0, 0)),
    }
    if features.check("avif"):
        made["AVIF"] = encoded(disc, "AVIF", quality=100)
    return made


@pytest.mark.parametrize("name", transparent())
def test_transparent_images_are_laid_over_white(name):
    data = transparent()[name]
    decoded = decode(data)
    made = np.asarray(decoded.image).astype(int)
    assert (made[0] > 250).all()
    assert (made[1:3, 1:3] < 12).all()
    assert decoded.traits == {"transparency"} == images.traits_of(data)
    assert decoded.header.mime is None


def test_an_alpha_channel_that_hides_nothing_is_not_counted():
    opaque = RGB.copy()
    opaque.putalpha(255)
    data = encoded(opaque, "PNG")
    assert decode(data).traits == frozenset() == images.traits_of(data)
    assert (np.asarray(load_image(data)) == NOISE).all()
    assert read_header(data).mime is None, "readers differ in what they make of the channel"


@pytest.mark.parametrize(
    ("kind", "values", "wanted"),
    [
        ("PNG", np.array([[0, 30_000, 65535]], np.uint16), [0, 117, 255]),
        ("TIFF", np.array([[0, 30_000, 65535]], np.uint16), [0, 117, 255]),
        ("TIFF", np.array([[0, 30_000, 65535]], np.int32), [0, 117, 255]),
        ("TIFF", np.array([[0, 2**30, 2**31 - 1]], np.int32), [0, 127, 255]),
        ("TIFF", np.array([[0, 0.5, 1]], np.float32), [0, 128, 255]),
        ("TIFF", np.array([[0, 100, 255]], np.float32), [0, 100, 255]),
        ("TIFF", np.array([[-3.5, 0, 3.5]], np.float32), [0, 127, 255]),
        ("PPM", np.array([[0, 100, 200]], np.int32), [0, 0, 0]),
        ("PPM", np.array([[0, 30_000, 65535]], np.int32), [0, 117, 255]),
    ],
)
def test_deep_images_are_scaled(kind, values, wanted):
    decoded = decode(encoded(Image.fromarray(values), kind))
    assert np.abs(np.asarray(decoded.image)[0, :, 0].astype(int) - wanted).max() <= 1
    assert decoded.header.mime is None


def test_colours_of_forty_eight_bits_are_not_sent_as_they_are():
    rows = b"".join(b"\0" + struct.pack(">6H", 0, 30_000, 65535, 1, 2, 3) for _ in range(2))
    data = png_that_claims(2, 2, rows, bits=16)
    decoded = decode(data)
    assert np.asarray(decoded.image)[0].tolist() == [[0, 117, 255], [0, 0, 0]]
    assert decoded.header.mime is None
    keyed = with_chunk(data, b"tRNS", struct.pack(">3H", 0, 30_000, 65535), last=False)
    assert np.asarray(decode(keyed).image)[0].tolist() == [[255, 255, 255], [0, 0, 0]]


def test_twelve_bits_of_a_scan_are_not_black():
    packed = bytes([0xFF, 0xF8, 0x00])  # two pixels, 4095 and 2048
    tags = {
        256: (4, 2),
        257: (4, 1),
        258: (3, 12),
        259: (3, 1),
        262: (3, 1),
        273: (4, 8),
        277: (3, 1),
        279: (4, 3),
    }
    entries = [struct.pack("<HHII", tag, kind, 1, value) for tag, (kind, value) in tags.items()]
    table = struct.pack("<H", len(entries)) + b"".join(entries)
    data = b"II*\0" + struct.pack("<I", 12) + packed + b"\0" + table + bytes(4)
    assert np.asarray(load_image(data))[0, :, 0].tolist() == [255, 128]


def test_cmyk_of_a_jpeg_is_converted():
    made = np.asarray(load_image(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")))
    assert np.abs(made.astype(int) - [255, 0, 0]).max() <= 4


def test_plain_files_say_their_type():
    for kind, mime in (("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp")):
        for image in (RGB, SMOOTH) if kind != "WEBP" else (RGB,):
            data = encoded(image, kind)
            assert decode(data).header.mime == mime == read_header(data).mime
    for kind in ("GIF", "BMP", "TIFF", "PPM"):
        assert read_header(encoded(RGB, kind)).mime is None
    assert read_header(encoded(RGB.convert("CMYK"), "JPEG")).mime is None


def test_a_jpeg_may_be_decoded_small(tmp_path):
    Image.new("RGB", (800, 400), "red").save(tmp_path / "a.jpg", exif=exif(6))
    assert load_image(tmp_path / "a.jpg", near=100).size == (100, 200)

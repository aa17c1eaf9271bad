"""Images as files hold them: broken ones are named, all others become the same RGB everywhere."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pairuni.io.images import ImageError, load_image
from pairuni.pairug.completion.requests import RequestImage
from pairuni.pairug.dataset.images import gather_images
from pairuni.records import Quadruple


def encoded(image: Image.Image, kind: str) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["AVIF", "DDS", "PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"])
def test_spoilt_bytes_of_any_format_are_an_image_error(kind):
    noise = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(150):
        spoilt = bytearray(data[: rng.integers(8, len(data) + 1)])
        spoilt[rng.integers(4, len(spoilt))] ^= int(rng.integers(1, 256))
        try:
            assert load_image(bytes(spoilt)).mode == "RGB"
        except ImageError:
            refused += 1
    assert refused > 0


def test_sixteen_bits_are_scaled_not_cut_off():
    ramp = np.linspace(0, 65535, 256, dtype=np.uint16).reshape(16, 16)
    decoded = load_image(encoded(Image.fromarray(ramp), "PNG"))
    assert np.asarray(decoded)[..., 0].ravel().tolist() == (ramp >> 8).ravel().tolist()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "I;16", "P"])
def test_what_is_sent_is_what_a_policy_sees(tmp_path, mode):
    grey = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    image = (
        Image.fromarray(grey)
        if mode == "I;16"
        else Image.fromarray((grey % 256).astype(np.uint8)).convert(mode)
    )
    if mode in ("RGBA", "LA"):
        image.putalpha(7)
    image.save(tmp_path / "x.png")
    kind, data = RequestImage.of(tmp_path / "x.png", 100).encoded()
    sent = Image.open(BytesIO(data))
    assert (kind, sent.mode) == ("image/png", "RGB")
    assert sent.tobytes() == load_image((tmp_path / "x.png").read_bytes()).tobytes()


def test_plain_files_are_sent_as_they_are(tmp_path):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "x.jpg")
    assert RequestImage.of(tmp_path / "x.jpg", 100).encoded() == (
        "image/jpeg",
        (tmp_path / "x.jpg").read_bytes(),
    )


def test_a_name_too_long_for_a_copy_is_cut(tmp_path):
    picture = tmp_path / f"{'ü' * 120}.png"
    Image.new("RGB", (8, 8)).save(picture)
    quadruple = Quadruple(
        id="1", origin="generation", image_path=str(picture), prompt="p", question="q", answer="a", tag="t"
    )
    out = tmp_path / "out"
    out.mkdir()
    (gathered,) = gather_images([quadruple], ["0123456789abcdef0123"], out, tmp_path / "scratch")
    assert gathered.image_path == f"images/{'ü' * 75}-0123456789abcdef.png"
    assert (out / gathered.image_path).read_bytes() == Path(picture).read_bytes()

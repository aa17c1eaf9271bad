"""Images through the pairing pipeline: the same RGB everywhere, traits counted, and only images are packed."""

from __future__ import annotations

import io
import json
import os
from collections import Counter
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from colour_world import Template
from pairuni.chat.image import sendable
from pairuni.cli.app import app
from pairuni.config import PairsSettings
from pairuni.io.images import ImageError, Trait, load_image
from pairuni.pairug.build import build_pairs
from pairuni.pairug.completion.requests import RequestImage
from pairuni.pairug.dataset.conversion import convert_pairs
from pairuni.pairug.dataset.images import count_traits, gather_images
from pairuni.pairug.dataset.publishing import write_data_set
from pairuni.pairug.dataset.store import iter_problems, read_pairs, write_pairs
from pairuni.pairug.selection.features import encode_features
from pairuni.records import Annotation, Quadruple, UGPair
from pairuni.report.images import thumbnail
from source_data import lines, parquet, png


def image_files(folder: Path) -> dict[str, Path]:
    """A file with each trait; upright, all are 40 pixels wide and 20 high."""
    folder.mkdir(parents=True, exist_ok=True)
    gradient = Image.linear_gradient("L").resize((40, 20))
    red = Image.merge("RGB", (gradient, gradient.rotate(180), gradient))
    exif = Image.Exif()
    exif[274] = 8
    disc = red.convert("RGBA")
    disc.putalpha(gradient)
    frames = [Image.new("RGB", (40, 20), colour) for colour in ("red", "blue")]
    animated = {"save_all": True, "append_images": frames[1:]}
    deep = Image.fromarray(np.asarray(gradient).astype(np.uint16) * 257)
    made = {
        "lying.jpg": lambda path: red.rotate(-90, expand=True).save(path, exif=exif, quality=95),
        "lying.png": lambda path: red.rotate(-90, expand=True).save(path, exif=exif),
        "disc.png": lambda path: disc.save(path),
        "disc.webp": lambda path: disc.save(path, lossless=True),
        "frames.png": lambda path: frames[0].save(path, **animated),
        "frames.webp": lambda path: frames[0].save(path, lossless=True, **animated),
        "ink.jpg": lambda path: red.convert("CMYK").save(path),
        "deep.png": lambda path: deep.save(path),
        "scan.tif": lambda path: red.save(path),
    }
    for name, save in made.items():
        save(folder / name)
    return {name: folder / name for name in made}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    return image_files(tmp_path / "files")


def means(images: list[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(image, np.float32).mean(axis=(0, 1)) + 1 for image in images])


def test_what_is_sent_is_the_image_that_is_trained_on(files, tmp_path):
    grey = Image.linear_gradient("L").resize((40, 20))
    grey.convert("P").save(tmp_path / "palette.png")
    grey.putalpha(7)
    grey.save(tmp_path / "grey.png")
    for path in [*files.values(), tmp_path / "palette.png", tmp_path / "grey.png"]:
        rgb = load_image(path)
        assert rgb.size == (40, 20), path
        for mime, data in (RequestImage.of(path, 100).encoded(), sendable(path)):
            assert mime == "image/png", path
            with Image.open(io.BytesIO(data)) as sent:
                assert (sent.mode, getattr(sent, "n_frames", 1)) == ("RGB", 1), path
                assert not sent.info.keys() & {"exif", "transparency", "icc_profile"}, path
                assert sent.tobytes() == rgb.tobytes(), path
        small = RequestImage.of(path, 20)
        assert (small.width, small.height) == small.load().size == (20, 10)
        with Image.open(io.BytesIO(small.encoded()[1])) as sent:
            assert sent.size == (20, 10)


def test_a_plain_file_is_sent_itself(tmp_path):
    for name, mime in (("a.png", "image/png"), ("a.jpg", "image/jpeg"), ("a.webp", "image/webp")):
        Image.new("RGB", (8, 8), "red").save(tmp_path / name)
        expected = mime, (tmp_path / name).read_bytes()
        assert sendable(tmp_path / name) == RequestImage.of(tmp_path / name, 100).encoded() == expected
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"a\.png: cannot be read as an image"):
        sendable(tmp_path / "a.png")


def test_the_digest_depends_on_what_is_sent(files, tmp_path):
    """Files that earlier versions sent unchanged have new digests, so stored answers about them are not reused."""
    Image.new("RGB", (8, 8), "red").save(tmp_path / "plain.png")
    for path in [*files.values(), tmp_path / "plain.png"]:
        old = blake2b(path.read_bytes(), digest_size=16).hexdigest()
        assert (RequestImage.of(path, 100).digest == old) is (path.name == "plain.png")


def test_encoder_and_gallery_see_the_same_images(files, tmp_path):
    paths = list(files.values())
    seen = []

    def looking(images: list[Image.Image]) -> np.ndarray:
        seen.extend(images)
        return means(images)

    encoded = encode_features(paths, looking, batch_size=4, cache=tmp_path / "features")
    assert encoded.faults == {}
    assert {image.size for image in seen} <= {(40, 20), (64, 64)}, "64 x 64 is the probe of the feature cache"
    for path in paths:
        made = thumbnail(path.parent, path.name, 100)
        assert made is not None
        with Image.open(io.BytesIO(made.data)) as shown:
            assert (shown.size, shown.mode) == ((40, 20), "RGB")
            assert np.abs(np.asarray(shown).astype(int) - np.asarray(load_image(path))).max() == 0


def test_traits_are_counted_once_an_image_and_again_in_the_next_run(files, tmp_path):
    copy = tmp_path / "copy.png"
    copy.write_bytes(files["disc.png"].read_bytes())
    paths = [*files.values(), copy]
    wanted = {"transparency": 2, "orientation": 2, "frames": 2}
    for _ in range(2):  # the second time from the cache, without decoding
        encoded = encode_features(paths, means, batch_size=3, cache=tmp_path / "cache")
        assert count_traits(encoded.distinct_traits()) == wanted


def side(name: str) -> Annotation:
    return Annotation(image_path=name, prompt="p", question="q", answer="a")


def pair(one: str, other: str | None = None) -> UGPair:
    return UGPair(
        similarity=1.0 if other is None else 0.5, generate_ann=side(one), understand_ann=side(other or one)
    )


def test_check_says_how_many_images_lose_something(files, tmp_path):
    path = tmp_path / "files" / "pairs.jsonl"
    write_pairs(path, [pair(name) for name in files])
    convert_pairs(path, tmp_path / "inside.parquet", embed=True)
    for file in (path, tmp_path / "inside.parquet"):
        ran = CliRunner().invoke(app, ["pairs", "check", str(file)])
        assert ran.exit_code == 0
        assert ran.stdout.splitlines() == [
            "2 images have transparent parts, which are laid over white",
            "2 images have an orientation tag, which is applied",
            "2 images have several frames or pages, of which the first is used",
            f"{file}: no problems",
        ]


def hostile(folder: Path, name: str, data: bytes) -> Path:
    """A parquet file with an image of this name inside, as anybody may write one."""
    texts = {"image_path": name, "prompt": "p", "question": "q", "answer": "a", "tag": "", "extra": None}
    ann = {"image": {"bytes": data, "path": name}, **texts}
    row = {"similarity": 1.0, "kind": "aligned", "generate_ann": ann, "understand_ann": ann}
    return parquet(folder / "hostile.parquet", row)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (".bash_profile", "begins with a dot"),
        (".ssh/rc", "begins with a dot"),
        (".ssh/a.png", "begins with a dot"),
        ("a/.hidden.png", "begins with a dot"),
        ("conftest.py", "does not end in an image suffix"),
        ("pairs.jsonl", "does not end in an image suffix"),
        ("Makefile", "does not end in an image suffix"),
        ("a.png.py", "does not end in an image suffix"),
        ("a\x1b[31m.png", "control character"),
        ("a\n.png", "control character"),
        ("../a.png", "lies outside"),
        ("/tmp/a.png", "is absolute"),
        ("C:\\a.png", "is absolute"),
        ("out/a.png", "lies outside"),
    ],
)
def test_names_inside_a_file_write_nothing_but_images_below_the_target(tmp_path, name, said):
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (target / "out").symlink_to(tmp_path / "elsewhere")
    source = hostile(tmp_path, name, png())
    with pytest.raises(ValueError, match=said):
        convert_pairs(source, target / "pairs.jsonl")
    left = sorted(path.name for path in tmp_path.rglob("*"))
    assert left == ["elsewhere", "hostile.parquet", "out", "target"]


@pytest.mark.parametrize("data", [b"#!/bin/sh\n", b"%!PS-Adobe-3.0\n{} loop", b"\x89PNG\r\n\x1a\n and more"])
def test_bytes_inside_a_file_are_written_only_as_images(tmp_path, data):
    source = hostile(tmp_path, "a.png", data)
    with pytest.raises(ValueError, match=r"the image 'a\.png'"):
        convert_pairs(source, tmp_path / "target" / "pairs.jsonl")
    assert not (tmp_path / "target").exists()


def test_what_is_in_the_way_is_kept_whatever_it_is(tmp_path):
    source = hostile(tmp_path, "a.png", png())
    target = tmp_path / "target"
    target.mkdir()
    for make in (
        lambda path: path.write_bytes(b"mine"),
        lambda path: path.mkdir(),
        os.mkfifo,
        lambda path: path.symlink_to(tmp_path / "elsewhere.png"),
    ):
        make(target / "a.png")
        with pytest.raises(ValueError, match=r"exists and is another file|lies outside"):
            convert_pairs(source, target / "pairs.jsonl")
        assert not (tmp_path / "elsewhere.png").exists()
        (target / "a.png").rmdir() if (target / "a.png").is_dir() else (target / "a.png").unlink()
    assert convert_pairs(source, target / "pairs.jsonl") == 1
    assert (target / "a.png").read_bytes() == png()


@pytest.mark.parametrize("name", [".ssh/id_rsa", "id_rsa", "notes.txt", "key.png", ".hidden.png", "pipe.png"])
def test_nothing_but_images_is_packed(tmp_path, name):
    place = tmp_path / name
    place.parent.mkdir(exist_ok=True)
    if name == "pipe.png":
        os.mkfifo(place)
    else:
        place.write_bytes(png() if name == ".hidden.png" else b"-----BEGIN OPENSSH PRIVATE KEY-----")
    path = tmp_path / "pairs.jsonl"
    path.write_text(pair(name).model_dump_json() + "\n")
    for target in (tmp_path / "packed.parquet", tmp_path / "other" / "pairs.jsonl"):
        with pytest.raises(ValueError, match=name):
            convert_pairs(path, target, embed=target.suffix == ".parquet")
        assert not target.exists()
        assert not list(tmp_path.glob("other/**/*id_rsa"))

    with pytest.raises(ValueError, match=name):
        write_data_set(path, "me/pairs", tmp_path / "shared")
    assert not (tmp_path / "shared").exists()


def test_pair_files_follow_no_links_out_of_their_folder_but_those_of_a_hub_snapshot(tmp_path):
    (tmp_path / "private.png").write_bytes(png())
    for folder, opens in (("plain/data", False), ("datasets--x--y/snapshots/abc", True)):
        data = tmp_path / folder
        data.mkdir(parents=True)
        blobs = data.parent.parent / "blobs"
        blobs.mkdir(exist_ok=True)
        (blobs / "b0").write_bytes(png())
        (data / "a.png").symlink_to(blobs / "b0")
        (data / "pairs.jsonl").write_text(pair("a.png").model_dump_json() + "\n")
        if opens:
            assert len(read_pairs(data / "pairs.jsonl")) == 1
            assert thumbnail(data, "a.png", 100) is not None
            assert convert_pairs(data / "pairs.jsonl", tmp_path / "copy" / "pairs.jsonl") == 1
            assert (tmp_path / "copy" / "a.png").read_bytes() == png()
        else:
            with pytest.raises(ValueError, match="lies outside the file's folder"):
                read_pairs(data / "pairs.jsonl")
            assert thumbnail(data, "a.png", 100) is None
        (data / "a.png").unlink()
        (data / "a.png").symlink_to(tmp_path / "private.png")
        with pytest.raises(ValueError, match="lies outside the file's folder"):
            read_pairs(data / "pairs.jsonl")


def quadruple(path: Path) -> Quadruple:
    """A completed sample about this image."""
    return Quadruple(id="1", origin="generation", image_path=str(path), prompt="p", question="q", answer="a")


def test_gathered_images_have_the_names_of_images(tmp_path):
    out = tmp_path / "out"
    (out / "inside").mkdir(parents=True)
    (tmp_path / "blob").write_bytes(png())
    long = f"{'ü' * 120}.png"
    for name in ("photo", ".hidden.png", "a\n.JPG", long, "inside/complete.png", "inside/bare"):
        ((out if "inside" in name else tmp_path) / name).write_bytes(png())
    (tmp_path / "named.png").symlink_to(tmp_path / "blob")
    digest = "0123456789abcdef0123"
    for source, wanted in {
        tmp_path / "photo": "images/photo-0123456789abcdef.png",
        tmp_path / ".hidden.png": "images/hidden-0123456789abcdef.png",
        tmp_path / "a\n.JPG": "images/a_-0123456789abcdef.JPG",
        tmp_path / long: f"images/{'ü' * 75}-0123456789abcdef.png",
        tmp_path / "named.png": "images/named-0123456789abcdef.png",
        out / "inside" / "complete.png": "inside/complete.png",
        out / "inside" / "bare": "images/bare-0123456789abcdef.png",
    }.items():
        (gathered,) = gather_images([quadruple(source)], [[digest]], out, tmp_path / "scratch")
        assert gathered.image_path == wanted
        assert (out / wanted).read_bytes() == png()
        write_pairs(
            out / "pairs.jsonl",
            [UGPair(similarity=1.0, generate_ann=side(wanted), understand_ann=side(wanted))],
        )


def test_a_build_counts_its_images_and_its_check_agrees(files, tmp_path, caplog):
    caplog.set_level("INFO", "pairuni")
    names = sorted(files)
    rows = {
        "u": [{"image": name, "question": "what?", "answer": name} for name in names],
        "g": [{"image": name, "caption": name} for name in names[:3]],
    }
    for corpus, its in rows.items():
        lines(tmp_path / "files" / f"{corpus}.jsonl", *its)
    settings = PairsSettings(
        understanding=[f"{tmp_path}/files/u.jsonl"],
        generation=[f"{tmp_path}/files/g.jsonl"],
        out=tmp_path / "out",
        clusters=2,
        max_tries=1,
    )
    for _ in range(2):
        caplog.clear()
        build_pairs(settings, encoder=means, annotator=Template())
        stats = json.loads((tmp_path / "out" / "stats.json").read_text())
        assert stats["pictures"] == {"transparency": 2, "orientation": 2, "frames": 2}
        assert "2 images have transparent parts, which are laid over white" in caplog.text
    traits: Counter[Trait] = Counter()
    assert list(iter_problems(tmp_path / "out" / "pairs.jsonl", traits)) == []
    assert sum(traits.values()) > 0

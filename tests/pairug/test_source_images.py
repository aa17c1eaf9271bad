"""Images of raw data in every writing and place: what is read, and what a row must not name."""

from __future__ import annotations

import base64
import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, features

from pairuni.io.images import IMAGE_SUFFIXES
from pairuni.pairug.jsonl import Problem
from pairuni.pairug.sources import SampleReader
from pairuni.records import GenerationSample

FORMATS = {
    "JPEG": ".jpg",
    "PNG": ".png",
    "WEBP": ".webp",
    "GIF": ".gif",
    "BMP": ".bmp",
    "TIFF": ".tif",
    "PPM": ".ppm",
}


def encoded(kind: str = "PNG", number: int = 1) -> bytes:
    noise = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, kind)
    return buffer.getvalue()


PNG = encoded()


def found(given: object, pictures: Path) -> tuple[list[GenerationSample], list[str], dict[str, int]]:
    reading = SampleReader(str(given), GenerationSample, pictures)
    every = list(reading)
    return (
        [one for one in every if not isinstance(one, Problem)],
        [str(one) for one in every if isinstance(one, Problem)],
        dict(reading.left_out),
    )


def one_row(folder: Path, image: object, *, query: str = "") -> bytes | str:
    """What becomes of a row with this image: the bytes that its sample names, or its problem."""
    path = folder / "g.jsonl"
    path.write_text(json.dumps({"image": image, "caption": "x"}))
    samples, problems, _ = found(f"{path}{query}", folder / "kept")
    assert len(samples) + len(problems) == 1
    if problems:
        assert len(problems[0]) < 500
        return problems[0]
    (sample,) = samples
    assert len(sample.id) < 40
    place = Path(sample.image_path)
    return place.read_bytes() if place.is_file() else "missing"


def wrapped(text: str) -> str:
    return "\r\n".join(text[start : start + 76] for start in range(0, len(text), 76))


def writings(data: bytes) -> dict[str, object]:
    code = base64.b64encode(data).decode()
    safe = base64.urlsafe_b64encode(data).decode()
    return {
        "base64": code,
        "without padding": code.rstrip("="),
        "URL-safe": safe.rstrip("="),
        "with line breaks": wrapped(code),
        "blanks around": f" \n{code}\n ",
        "data URI": f"data:image/png;base64,{code}",
        "data URI in capitals": f"DATA:image/jpeg;charset=utf-8;BASE64,{wrapped(safe)}",
        "data URI without a type": f"data:;base64,{code}",
        "data URI, escaped": "data:image/png;base64,"
        + code.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D"),
        "data URI of escapes": "data:image/png," + "".join(f"%{byte:02x}" for byte in data),
        "object with base64": {"bytes": code, "path": "1.png"},
        "object with a data URI": {"bytes": f"data:image/png;base64,{code}"},
        "object with numbers": {"bytes": list(data), "path": None},
        "object with a URL": {"url": f"data:image/png;base64,{code}"},
        "message part": {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{code}"}},
        "list of one": [code],
    }


@pytest.mark.parametrize("writing", writings(PNG))
@pytest.mark.parametrize("kind", [*FORMATS, "AVIF"])
def test_images_as_text(tmp_path, kind, writing):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    data = encoded(kind)
    assert one_row(tmp_path, writings(data)[writing]) == data
    (kept,) = (one for one in (tmp_path / "kept").rglob("*") if one.is_file())
    assert kept.suffix == {**FORMATS, "AVIF": ".avif"}[kind]


def test_images_in_columns_of_tables(tmp_path):
    code = base64.b64encode(PNG)
    columns = {
        "binary": pa.array([PNG], pa.binary()),
        "large": pa.array([PNG], pa.large_binary()),
        "coded": pa.array([code], pa.binary()),
        "text": pa.array([code.decode()], pa.string()),
        "struct": pa.array([{"bytes": PNG, "path": None}]),
        "list": pa.array([[{"bytes": PNG, "path": "a"}]]),
    }
    pq.write_table(pa.table({**columns, "caption": ["x"]}), tmp_path / "g.parquet")
    for column in columns:
        (sample,), problems, _ = found(f"{tmp_path}/g.parquet?image_path={column}", tmp_path / "kept")
        assert (Path(sample.image_path).read_bytes(), problems) == (PNG, [])
    (tmp_path / "g.tsv").write_text(f"index\timage\tcaption\n0\t{code.decode()}\tx\n")
    (sample,), _, _ = found(tmp_path / "g.tsv", tmp_path / "kept")
    assert Path(sample.image_path).read_bytes() == PNG


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("https://example.com/a.jpg", "'https://example.com/a.jpg' is a URL; images are not downloaded"),
        ("HTTP://example.com/a.jpg", "is a URL"),
        ("s3://bucket/a.jpg", "is a URL"),
        ("//example.com/a.jpg", "is a URL"),
        ({"url": "https://example.com/a.jpg"}, "is a URL"),
        ({"path": "https://example.com/a.jpg", "bytes": None}, "is a URL"),
        ("file://server/share/a.jpg", "is a URL of another machine"),
        ({"bytes": ""}, "the image is empty"),
        ({"bytes": []}, "the image is empty"),
        ({"bytes": [256]}, "must be numbers from 0 to 255"),
        ({"bytes": ["a"]}, "must be numbers from 0 to 255"),
        ({"bytes": 5}, "must be bytes or base64, not int"),
        ({"bytes": "a"}, "base64 that cannot be decoded"),
        ({"path": 5}, "path of the image must be text, not int"),
        ({}, "the image is empty"),
        ("data:image/png;base64,", "the image is empty"),
        ("data:image/png;base64,a", "base64 that cannot be decoded"),
        (base64.b64encode(PNG).decode()[:-3], "base64 that cannot be decoded"),
        ("x" * 100_000, "is neither a path nor an image in base64"),
        ("two\nlines.png", "is neither a path nor an image in base64"),
        ("x" * 300 + ".png", "cannot be followed"),
        ("a\0b.png", "contains a NUL character"),
        ("../a.png", "'../a.png' lies outside the file's folder"),
        ("..\\a.png", "lies outside"),
        ("b/../../a.png", "lies outside"),
        ("/etc/passwd", "'/etc/passwd' is absolute; ?images=FOLDER opens"),
        ("file:///etc/passwd", "'/etc/passwd' is absolute"),
        ("C:\\pictures\\a.png", "is absolute"),
        ("\\\\server\\share\\a.png", "is absolute"),
        ([], None),
        (["a.png", "b.png"], None),
    ],
)
def test_what_is_no_image_is_a_sentence(tmp_path, image, said):
    (tmp_path / "inside").mkdir()
    (tmp_path / "a.png").write_bytes(PNG)
    if said is None:
        (tmp_path / "inside" / "g.jsonl").write_text(json.dumps({"image": image, "caption": "x"}))
        _, problems, left_out = found(tmp_path / "inside" / "g.jsonl", tmp_path / "kept")
        assert (problems, sum(left_out.values())) == ([], 1)
        return
    problem = one_row(tmp_path / "inside", image)
    assert isinstance(problem, str)
    assert said in problem
    assert "line 1, field image_path" in problem


@pytest.mark.parametrize(
    "path", ["BM/GF/a/picture/of/a/bitmap/long/enough", "UDYK" * 20, "iVBORw0KGgo" + "A" * 40 + ".png"]
)
def test_paths_that_look_like_base64_are_paths(tmp_path, path):
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_bytes(PNG)
    assert one_row(tmp_path, path) == PNG


def test_paths_as_they_are_written_elsewhere(tmp_path):
    (tmp_path / "images" / "a b").mkdir(parents=True)
    (tmp_path / "images" / "a b" / "0.png").write_bytes(PNG)
    for path in (
        "images\\a b\\0.png",
        "./images//a b/0.png",
        "images/x/../a b/0.png",
        ".\\images\\a b/0.png",
    ):
        assert one_row(tmp_path, path) == PNG, path
    (tmp_path / "one\\name.png").write_bytes(encoded(number=2))
    assert one_row(tmp_path, "one\\name.png") == encoded(number=2)


def test_the_user_s_word_opens_a_folder_and_nothing_else(tmp_path):
    store, data = tmp_path / "store", tmp_path / "data"
    for folder in (store, data):
        folder.mkdir()
        (folder / "0.png").write_bytes(PNG)
    (tmp_path / "other.png").write_bytes(PNG)
    (data / "link.png").symlink_to(store / "0.png")
    (data / "here.png").symlink_to(data / "0.png")
    (data / "folder").symlink_to(store)
    named, root = f"?images={data}", "?images=/"
    for image, query, opens in [
        ("0.png", "", True),
        ("here.png", "", True),
        ("folder/0.png", "", True),
        ("link.png", "", False),
        ("link.png", named, True),
        ("folder/0.png", named, True),
        (f"{data}/0.png", "", False),
        (f"{data}/0.png", named, True),
        (f"{data}/folder/0.png", named, True),
        (f"file://{data}/0.png", named, True),
        (f"file://localhost{data}/0.png", named, True),
        ({"bytes": None, "path": f"{data}/0.png"}, named, True),
        (f"{store}/0.png", named, False),
        (f"{store}/0.png", root, True),
        (f"{data}/../other.png", named, False),
        ("../other.png", named, False),
        ("folder/../../other.png", named, False),
        ("folder/../0.png", "", True),
    ]:
        made = one_row(data, image, query=query)
        assert (made == PNG) is opens, (image, query, made)
    problem = one_row(data, "link.png")
    assert "lies outside the file's folder, by a link; ?images=FOLDER also opens linked files" in problem


def hub_snapshot(folder: Path) -> Path:
    """As huggingface_hub lays out its cache: names are links to blobs beside the snapshots."""
    cache = folder / "datasets--x--y"
    snapshot = cache / "snapshots" / "abc"
    (cache / "blobs").mkdir(parents=True)
    (snapshot / "images").mkdir(parents=True)
    row = json.dumps({"image": "images/0.png", "caption": "x"}).encode()
    for name, blob, data in (
        ("images/0.png", "b0", PNG),
        ("images/0.txt", "b1", b"beside"),
        ("data.jsonl", "b2", row),
    ):
        (cache / "blobs" / blob).write_bytes(data)
        (snapshot / name).symlink_to(os.path.relpath(cache / "blobs" / blob, (snapshot / name).parent))
    return snapshot


def test_a_snapshot_in_the_hub_s_cache(tmp_path):
    snapshot = hub_snapshot(tmp_path)
    (tmp_path / "elsewhere").symlink_to(snapshot)
    for given in (
        snapshot / "data.jsonl",
        f"{snapshot}/data.jsonl?images={snapshot}",
        tmp_path / "elsewhere" / "data.jsonl",
        f"folder:{snapshot / 'images'}",
        f"folder:{snapshot}",
    ):
        (sample,), problems, _ = found(given, tmp_path / "kept")
        assert (Path(sample.image_path).read_bytes(), problems) == (PNG, [])
    (tmp_path / "secret.txt").write_text("private")
    (snapshot / "images" / "0.txt").unlink()
    (snapshot / "images" / "0.txt").symlink_to(tmp_path / "secret.txt")
    samples, (problem,), _ = found(f"folder:{snapshot / 'images'}", tmp_path / "kept")
    assert not samples
    assert "0.txt lies outside" in problem


def test_folders_of_images_of_every_suffix(tmp_path):
    for number, suffix in enumerate(IMAGE_SUFFIXES):
        name = f"{number:02}{suffix.upper() if number % 2 else suffix}"
        (tmp_path / name).write_bytes(PNG)
        (tmp_path / f"{number:02}{('.txt', '.TXT', '.Txt')[number % 3]}").write_text(suffix)
    samples, problems, left_out = found(tmp_path, tmp_path / "kept")
    assert [one.prompt for one in samples] == list(IMAGE_SUFFIXES)
    assert (problems, left_out) == ([], {})


def test_what_a_folder_holds_besides_is_counted(tmp_path):
    for name in (
        "a.png",
        "a.txt",
        "b.heic",
        "b.txt",
        "c.svg",
        "README",
        "notes.md",
        "d.mp4",
        "e.eps",
        ".hidden",
        "._a.png",
    ):
        (tmp_path / name).write_bytes(PNG if name == "a.png" else b"x")
    samples, problems, left_out = found(f"folder:{tmp_path}", tmp_path / "kept")
    assert ([one.prompt for one in samples], problems) == (["x"], [])
    assert left_out == {
        "images that are not read (.heic)": 1,
        "images that are not read (.svg)": 1,
        "images that are not read (.eps)": 1,
        "videos that are not read (.mp4)": 1,
        "files that are neither images nor texts": 2,
        "texts without an image of the same name": 1,
    }


def test_linked_folders_are_read_once(tmp_path):
    store, data = tmp_path / "store", tmp_path / "data"
    (store / "deep").mkdir(parents=True)
    (data / "own").mkdir(parents=True)
    for place in (store / "1", store / "deep" / "2", data / "own" / "3"):
        place.with_suffix(".png").write_bytes(encoded(number=int(place.name)))
        place.with_suffix(".txt").write_text(place.name)
    (data / "coco").symlink_to(store)
    (data / "again").symlink_to(store)
    (data / "ring").symlink_to(data)
    (store / "back").symlink_to(data)
    (store / "up").symlink_to(store)
    (data / "self").symlink_to("self")
    (data / "gone").symlink_to(tmp_path / "none")
    samples, problems, left_out = found(f"folder:{data}", tmp_path / "kept")
    assert sorted(one.prompt for one in samples) == ["1", "2", "3"]
    assert problems == []
    assert sum(count for reason, count in left_out.items() if reason.startswith("linked folders")) == 4


def test_texts_obey_the_rules_of_images(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "secret.txt").write_text("private")
    for name in "abcde":
        (tmp_path / "data" / f"{name}.png").write_bytes(PNG)
    (tmp_path / "data" / "a.txt").symlink_to(tmp_path / "secret.txt")
    (tmp_path / "data" / "b.json").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "data" / "c.txt")
    (tmp_path / "data" / "shared.caption").write_text("shared")
    (tmp_path / "data" / "d.txt").symlink_to("shared.caption")
    with (tmp_path / "data" / "e.txt").open("wb") as large:
        large.truncate((1 << 26) + 1)
    samples, problems, _ = found(f"folder:{tmp_path / 'data'}", tmp_path / "kept")
    assert [one.prompt for one in samples] == ["shared"]
    for problem, said in zip(
        problems,
        (
            "a.txt lies outside",
            "b.json lies outside",
            "c.txt cannot be read (is a named pipe",
            "e.txt has 67,108,865",
        ),
        strict=True,
    ):
        assert said in problem
    samples, _, _ = found(f"folder:{tmp_path / 'data'}?images={tmp_path / 'data'}", tmp_path / "kept")
    assert "private" in [one.prompt for one in samples]


@pytest.mark.skipif(sys.platform != "linux", reason="permissions of Linux")
@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_cannot_be_listed(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "closed").mkdir(mode=0)
    samples, (problem,), _ = found(f"folder:{tmp_path}", tmp_path / "kept")
    assert len(samples) == 1
    assert "closed: cannot be listed" in problem

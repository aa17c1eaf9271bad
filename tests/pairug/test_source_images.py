"""Images of raw data in every spelling and place: what is read, and what a row must not name."""

from __future__ import annotations

import base64
import json
import os
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import features

from source_data import encoded, generated, lines, understood

FORMATS = {
    "JPEG": ".jpg",
    "PNG": ".png",
    "WEBP": ".webp",
    "GIF": ".gif",
    "BMP": ".bmp",
    "TIFF": ".tif",
    "PPM": ".ppm",
    "AVIF": ".avif",
}
PNG = encoded()


def one_row(folder: Path, image: object, *, query: str = "") -> bytes | str:
    """What becomes of a row with this image: the bytes that its sample names, or its problem."""
    path = lines(folder / "g.jsonl", {"image": image, "caption": "x"})
    found = generated(f"{path}{query}", folder / "kept")
    if found.problems:
        assert len(found.problem) < 500
        return found.problem
    assert len(found.sample.id) < 40
    place = Path(found.sample.image_path)
    return place.read_bytes() if place.is_file() else "missing"


def wrapped(text: str) -> str:
    return "\r\n".join(text[start : start + 76] for start in range(0, len(text), 76))


def spellings(data: bytes) -> dict[str, object]:
    code = base64.b64encode(data).decode()
    safe = base64.urlsafe_b64encode(data).decode()
    escaped = code.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")
    return {
        "base64": code,
        "without padding": code.rstrip("="),
        "URL-safe": safe.rstrip("="),
        "with line breaks": wrapped(code),
        "blanks around": f" \n{code}\n ",
        "data URI": f"data:image/png;base64,{code}",
        "data URI in capitals": f"DATA:image/jpeg;charset=utf-8;BASE64,{wrapped(safe)}",
        "data URI without a type": f"data:;base64,{code}",
        "data URI, escaped": f"data:image/png;base64,{escaped}",
        "data URI of escapes": "data:image/png," + "".join(f"%{byte:02x}" for byte in data),
        "object with base64": {"bytes": code, "path": "1.png"},
        "object with a data URI": {"bytes": f"data:image/png;base64,{code}"},
        "object with numbers": {"bytes": list(data), "path": None},
        "object with a URL": {"url": f"data:image/png;base64,{code}"},
        "message part": {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{code}"}},
        "list of one": [code],
        **{form: form.format(code) for form in ("base64,{}", "image/png;base64,{}", "base64://{}")},
        **{form: form.format(code) for form in ("data:image/png;base64, {}", "b'{}'", '"{}"')},
    }


@pytest.mark.parametrize("spelling", spellings(PNG))
@pytest.mark.parametrize("kind", FORMATS)
def test_images_as_text(tmp_path, kind, spelling):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    data = encoded(kind)
    assert one_row(tmp_path, spellings(data)[spelling]) == data
    (kept,) = (one for one in (tmp_path / "kept").rglob("*") if one.is_file())
    assert kept.suffix == FORMATS[kind]


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
        sample = generated(f"{tmp_path}/g.parquet?image_path={column}", tmp_path / "kept").sample
        assert Path(sample.image_path).read_bytes() == PNG
    (tmp_path / "g.tsv").write_text(f"index\timage\tcaption\n0\t{code.decode()}\tx\n")
    sample = generated(tmp_path / "g.tsv", tmp_path / "kept").sample
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
        ("x" * 300 + ".png", "cannot be resolved"),
        ("a\0b.png", "contains a NUL character"),
        ("../a.png", "'../a.png' lies outside the file's folder"),
        ("..\\a.png", "lies outside"),
        ("b/../../a.png", "lies outside"),
        ("/etc/passwd", "'/etc/passwd' is absolute; ?images=FOLDER opens"),
        ("file:///etc/passwd", "'/etc/passwd' is absolute"),
        ("C:\\pictures\\a.png", "is absolute"),
        ("\\\\server\\share\\a.png", "is absolute"),
    ],
)
def test_what_is_not_an_image_is_a_sentence(tmp_path, image, said):
    (tmp_path / "inside").mkdir()
    (tmp_path / "a.png").write_bytes(PNG)
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
    assert "lies outside the file's folder, through a link; ?images=FOLDER also opens linked files" in problem


def hub_snapshot(folder: Path) -> Path:
    """As huggingface_hub lays out its cache: names are links to blobs next to the snapshots."""
    cache = folder / "datasets--x--y"
    snapshot = cache / "snapshots" / "abc"
    (cache / "blobs").mkdir(parents=True)
    (snapshot / "images").mkdir(parents=True)
    row = json.dumps({"image": "images/0.png", "caption": "x"}).encode()
    for name, blob, data in (
        ("images/0.png", "b0", PNG),
        ("images/0.txt", "b1", b"a text"),
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
        assert Path(generated(given, tmp_path / "kept").sample.image_path).read_bytes() == PNG
    (tmp_path / "secret.txt").write_text("private")
    (snapshot / "images" / "0.txt").unlink()
    (snapshot / "images" / "0.txt").symlink_to(tmp_path / "secret.txt")
    assert "0.txt lies outside" in generated(f"folder:{snapshot / 'images'}", tmp_path / "kept").problem


def test_paths_from_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "sub").mkdir()
    lines(tmp_path / "x.jsonl", {"image": "~/a.png", "question": "Which?", "answer": "a"})
    assert "'~/a.png' is absolute; ?images=FOLDER opens the folder" in understood("~/x.jsonl").problem
    assert "is absolute and lies outside" in understood("~/x.jsonl?images=~/sub").problem
    assert os.path.samefile(understood("~/x.jsonl?images=~/").sample.image_path, tmp_path / "a.png")


@pytest.mark.parametrize(("name", "form"), [("ü.png", "NFD"), (unicodedata.normalize("NFD", "é.png"), "NFC")])
def test_paths_in_letters_that_macos_decomposes(tmp_path, name, form):
    (tmp_path / unicodedata.normalize(form, name)).write_bytes(PNG)
    assert one_row(tmp_path, name) == PNG

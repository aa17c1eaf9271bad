"""Folders of images with texts, as people bring them: from img2dataset, macOS and Windows, with links."""

from __future__ import annotations

import os
import sys
import unicodedata
from pathlib import Path

import pytest

from pairuni.io.images import IMAGE_SUFFIXES
from source_data import generated, png


def put(folder: Path, **files: bytes | str) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    return folder


def test_an_image_has_a_text_an_object_or_both(tmp_path):
    put(tmp_path, **{"cats/1.jpg": png(), "cats/1.txt": "a cat", "cats/1.json": '{"width": 8}'})
    sample = generated(tmp_path).sample
    assert (sample.prompt, sample.width, sample.id, sample.tag) == ("a cat", 8, "cats/1", "cats")


def test_faulty_texts_are_named(tmp_path):
    put(tmp_path, **{"1.jpg": png(), "1.txt": b"caf\xe9", "1.json": "{}"})
    put(tmp_path, **{"2.jpg": png(), "2.txt": "good", "2.json": '{"width": '})
    put(tmp_path, **{"3.jpg": png(), "3.json": "[" * 100_000, "4.jpg": png()})
    found = generated(tmp_path)
    assert found.samples == []
    facts = [
        "1.jpg: 1.txt is not UTF-8 text (byte 4)",
        "2.jpg: 2.json is not valid JSON (Expecting value at column 11)",
        "3.jpg: 3.json is not readable JSON (nested too deeply)",
        "4.jpg: has no text next to it",
    ]
    assert all(fact in problem for fact, problem in zip(facts, found.problems, strict=True))


def test_names_that_macos_decomposes_are_the_same(tmp_path):
    put(tmp_path, **{"ü.png": png(), unicodedata.normalize("NFD", "ü") + ".txt": "u with two dots"})
    assert generated(tmp_path).sample.prompt == "u with two dots"


def test_images_of_every_suffix_in_small_letters_and_capitals(tmp_path):
    for number, suffix in enumerate(IMAGE_SUFFIXES):
        put(tmp_path, **{f"{number:02}{suffix.upper() if number % 2 else suffix}": png()})
        put(tmp_path, **{f"{number:02}{('.txt', '.TXT', '.Txt')[number % 3]}": suffix})
    found = generated(tmp_path)
    assert (found.prompts, found.problems, found.left_out) == (list(IMAGE_SUFFIXES), [], {})


def test_other_files_are_counted(tmp_path):
    others = ("b.heic", "b.txt", "c.svg", "README", "notes.md", "d.mp4", "e.eps", ".hidden", "._a.png")
    put(tmp_path, **{"a.png": png(), "a.txt": "x"}, **dict.fromkeys(others, "x"))
    found = generated(f"folder:{tmp_path}")
    assert (found.prompts, found.problems) == (["x"], [])
    assert found.left_out == {
        "images that are not read (.heic)": 1,
        "images that are not read (.svg)": 1,
        "images that are not read (.eps)": 1,
        "videos that are not read (.mp4)": 1,
        "files that are neither images nor texts": 2,
        "texts without an image of the same name": 1,
    }


def test_linked_folders_are_read_once(tmp_path):
    store, data = tmp_path / "store", tmp_path / "data"
    put(store, **{"1.png": png(1), "1.txt": "1", "deep/2.png": png(2), "deep/2.txt": "2"})
    put(data, **{"own/3.png": png(3), "own/3.txt": "3"})
    links = {"coco": store, "again": store, "ring": data, "self": "self", "gone": tmp_path / "none"}
    for name, target in links.items():
        (data / name).symlink_to(target)
    (store / "back").symlink_to(data)
    (store / "up").symlink_to(store)
    found = generated(f"folder:{data}")
    assert (sorted(found.prompts), found.problems) == (["1", "2", "3"], [])
    assert sum(count for reason, count in found.left_out.items() if reason.startswith("linked folders")) == 4


def test_texts_obey_the_rules_of_images(tmp_path):
    data = put(
        tmp_path / "data", **{f"{name}.png": png() for name in "abcde"}, **{"shared.caption": "shared"}
    )
    put(tmp_path, **{"secret.txt": "private"})
    (data / "a.txt").symlink_to(tmp_path / "secret.txt")
    (data / "b.json").symlink_to("/etc/passwd")
    os.mkfifo(data / "c.txt")
    (data / "d.txt").symlink_to("shared.caption")
    with (data / "e.txt").open("wb") as large:
        large.truncate((1 << 26) + 1)
    found = generated(f"folder:{data}")
    assert found.prompts == ["shared"]
    facts = (
        "a.txt lies outside",
        "b.json lies outside",
        "c.txt cannot be read (is a named pipe",
        "e.txt has 67,108,865",
    )
    assert all(fact in problem for fact, problem in zip(facts, found.problems, strict=True))
    assert "private" in generated(f"folder:{data}?images={data}").prompts


@pytest.mark.skipif(sys.platform != "linux", reason="permissions of Linux")
@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_cannot_be_listed(tmp_path):
    put(tmp_path, **{"a.png": png(), "a.txt": "x"})
    (tmp_path / "closed").mkdir(mode=0)
    found = generated(f"folder:{tmp_path}")
    assert len(found.samples) == 1
    assert "closed: cannot be listed" in found.problems[0]

"""Folders of images as people bring them: from img2dataset, macOS and Windows."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from test_source_forms import found, png

from pairuni.records import GenerationSample


def put(folder: Path, **files: bytes) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def test_a_image_has_both_a_text_and_an_object_beside_it(tmp_path):
    put(tmp_path, **{"1.jpg": png(1), "1.txt": b"a cat", "1.json": b'{"width": 8}'})
    (sample,), problems, left_out = found(GenerationSample, tmp_path)
    assert (sample.prompt, sample.model_dump()["width"], problems, left_out) == ("a cat", 8, [], {})


def test_either_text_beside_a_image_may_be_faulty(tmp_path):
    put(tmp_path, **{"1.jpg": png(1), "1.txt": b"caf\xe9", "1.json": b"{}"})
    put(tmp_path, **{"2.jpg": png(1), "2.txt": b"good", "2.json": b'{"width": '})
    put(tmp_path, **{"3.jpg": png(1), "3.json": b"[" * 100_000})
    samples, problems, _ = found(GenerationSample, tmp_path)
    assert (samples, [problem.reason for problem in problems]) == (
        [],
        [
            "1.txt is not UTF-8 text (byte 4)",
            "2.json is not valid JSON (Expecting value at column 11)",
            "3.json is not readable JSON (nested too deeply)",
        ],
    )


def test_names_that_macos_takes_apart_are_the_same(tmp_path):
    put(tmp_path, **{"ü.png": png(1), unicodedata.normalize("NFD", "ü") + ".txt": b"u with two dots"})
    (sample,), problems, left_out = found(GenerationSample, tmp_path)
    assert (sample.prompt, problems, left_out) == ("u with two dots", [], {})

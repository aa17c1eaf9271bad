"""Raw data as users bring it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pairuni.pairug.sources import read_generation, read_understanding

U = {"image_path": "images/a.png", "question": "how many?", "answer": "two"}
G = {"image_path": "images/a.png", "prompt": "two cats"}


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_unknown_keys_stay_and_images_open_from_anywhere(tmp_path):
    path = write(tmp_path / "u.jsonl", {**U, "id": "7", "tag": "count", "scene": {"things": [1, 2]}})
    (sample,) = read_understanding(path)
    assert (sample.id, sample.tag, sample.scene) == ("7", "count", {"things": [1, 2]})
    assert Path(sample.image_path) == tmp_path / "images" / "a.png"


def test_ids_are_derived_from_content_whatever_the_order(tmp_path):
    other = {**G, "prompt": "three cats"}
    first = [sample.id for sample in read_generation(write(tmp_path / "a.jsonl", G, other, G))]
    second = [sample.id for sample in read_generation(write(tmp_path / "b.jsonl", other, G))]
    assert second == [first[1], first[0]]
    assert len(set(first)) == 3
    assert first[2] == f"{first[0]}-2"


def test_an_empty_set_is_a_sentence(tmp_path):
    (tmp_path / "u.jsonl").write_text("\n")
    with pytest.raises(ValueError, match=r"u\.jsonl: the understanding set is empty"):
        read_understanding(tmp_path / "u.jsonl")
    with pytest.raises(FileNotFoundError, match=r"g\.jsonl: no such file"):
        read_generation(tmp_path / "g.jsonl")


@pytest.mark.parametrize(
    ("row", "field", "reason"),
    [
        ({**U, "answer": ["a", "b"]}, "answer", "must be a string, not ['a', 'b']"),
        ({**U, "answer": None}, "answer", "must be a string, not None"),
        ({"image_path": "a.png", "answer": "b"}, "question", "is missing"),
        ({**U, "image_path": "../a.png"}, "image_path", "'../a.png' lies outside the file's folder"),
        ({**U, "image_path": "/etc/a.png"}, "image_path", "is absolute"),
        ({**U, "id": "x"}, "id", "'x' is also that of line 1; ids must differ"),
        ({**U, "id": ""}, "id", "must not be empty"),
    ],
)
def test_a_bad_line_is_named_by_file_line_field_and_reason(tmp_path, row, field, reason):
    path = write(tmp_path / "u.jsonl", {**U, "id": "x"}, row)
    with pytest.raises(ValueError) as caught:
        read_understanding(path)
    assert str(caught.value).startswith(f"{path}, line 2, field {field}: ")
    assert reason in str(caught.value)

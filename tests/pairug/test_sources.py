"""From the columns of raw data to the fields of samples: names, templates, ids, and hints for the user."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from source_data import generated, lines, read_generation, read_understanding, understood

U = {"image_path": "images/a.png", "question": "how many?", "answer": "two"}
G = {"image_path": "images/a.png", "prompt": "two cats"}


def test_unknown_keys_stay_and_images_open_from_anywhere(tmp_path):
    row = {**U, "id": "7", "tag": "count", "scene": {"things": [1, 2]}}
    (sample,) = read_understanding(lines(tmp_path / "u.jsonl", row))
    assert (sample.id, sample.tag, sample.scene) == ("7", "count", {"things": [1, 2]})
    assert Path(sample.image_path) == tmp_path / "images" / "a.png"


def test_ids_are_derived_from_content_whatever_the_order(tmp_path):
    other = {**G, "prompt": "three cats"}
    first = [sample.id for sample in read_generation(lines(tmp_path / "a.jsonl", G, other, G))]
    second = [sample.id for sample in read_generation(lines(tmp_path / "b.jsonl", other, G))]
    assert second == [first[1], first[0]]
    assert len(set(first)) == 3
    assert first[2] == f"{first[0]}-2"


def test_ids_differ_over_all_inputs(tmp_path):
    a, b = (lines(tmp_path / f"{name}.jsonl", {**G, "id": 1}) for name in "ab")
    with pytest.raises(ValueError, match=r"b\.jsonl, line 1, field id: '1' is also that of a\.jsonl:1"):
        read_generation([a, b])
    samples = read_generation([f"{a}?id=", f"{b}?id="])
    assert samples[1].id == f"{samples[0].id}-2"


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
    path = lines(tmp_path / "u.jsonl", {**U, "id": "x"}, row)
    with pytest.raises(ValueError) as caught:
        read_understanding(path)
    assert str(caught.value).startswith(f"{path}, line 2, field {field}: ")
    assert reason in str(caught.value)


def test_columns_are_named_nested_filled_or_constant(tmp_path):
    row = {"photo": {"file": "a.png"}, "said": "it is red", "truth": [True, False], "n": 3, "tag": "old"}
    path = lines(tmp_path / "x.jsonl", row)
    query = (
        "image_path=photo.file&question='{said}, {n} times & more?'&answer=truth.0&tag='mine'&id='{n}-{said}'"
    )
    sample = understood(f"{path}?{query}").sample
    assert sample.question == "it is red, 3 times & more?"
    assert (sample.answer, sample.tag, sample.id) == ("true", "mine", "3-it is red")
    problem = understood(f"{path}?image_path=photo.name").problem
    assert "has no column photo.name; it has photo, said, truth, n, tag" in problem
    assert "field image_path: is missing; the columns are photo, said" in understood(path).problems[0]
    path = lines(tmp_path / "coco.jsonl", {"image_id": 9, "caption": "a cat"})
    found = generated(f"{path}?image_path='val/{{image_id:012}}.jpg'")
    assert found.sample.image_path == str(tmp_path / "val" / "000000000009.jpg")
    words = "word " * 100
    assert generated(f"{path}?image_path='a.png'&prompt='{words}'").sample.prompt == words.strip()


def test_a_template_with_a_hole_is_a_problem(tmp_path):
    rows = [{**U, "unit": unit, "size": 2.0, "words": ["a", "b"]} for unit in ("cm", None)]
    path = lines(tmp_path / "u.jsonl", *rows)
    found = understood(f"{path}?question='How long is {{size}} {{unit}}?'")
    assert [one.question for one in found.samples] == ["How long is 2 cm?"]
    assert "line 2: cannot be filled in: column unit holds no value" in found.problems[0]
    assert "column words holds a value of type list" in understood(f"{path}?question='{{words}}'").problems[0]


def test_columns_in_capitals(tmp_path):
    row = {"Image": "a.png", "QUESTION": "q", "Answer": "a", "ID": "7"}
    sample = understood(lines(tmp_path / "x.jsonl", row)).sample
    assert (sample.question, sample.answer, sample.ID) == ("q", "a", "7")
    assert sample.id != "7"


def test_null_and_nan_give_way_to_the_next_common_column(tmp_path):
    (tmp_path / "g.json").write_text(
        '[{"image": "a.png", "prompt": NaN, "caption": "a cat", "id": NaN, "tag": null}]'
    )
    sample = generated(tmp_path / "g.json").sample
    assert (sample.prompt, sample.tag, len(sample.id)) == ("a cat", "g", 16)


@pytest.mark.parametrize(
    ("row", "query", "hints"),
    [
        (
            {"answers": ["x", "y"]},
            "",
            ["?answer=COLUMN selects one, or a part of one: ?answer=answers.0"],
        ),
        ({"answers": ["x", "y"]}, "?answer=answers", ["not ['x', 'y']; ?answer=COLUMN.0 selects the first"]),
        ({"answer": {"raw": "a"}}, "", ["not {'raw': 'a'}; ?answer=COLUMN.KEY selects a part"]),
        ({"answer": []}, "", ["must be a string, not []"]),
        (
            {"question": None, "texts": [{"user": "q", "assistant": "a"}]},
            "?question=",
            ["?question=texts.0.user", "?answer=texts.0.assistant"],
        ),
    ],
)
def test_problems_say_which_column_to_name(tmp_path, row: dict[str, Any], query, hints):
    path = lines(tmp_path / "x.jsonl", {"image": "a.png", "question": "q", **row})
    problems = understood(f"{path}{query}").problems
    assert [problem.endswith(hint) for problem, hint in zip(problems, hints, strict=True)] == [True] * len(
        hints
    )

"""Rows as public data sets have them, and files as they come out of downloads and spreadsheets."""

from __future__ import annotations

import base64
import bz2
import gzip
import json
import os
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from test_source_forms import found, parquet, png, tar_of

from pairuni.records import GenerationSample, UnderstandingSample

IMAGE = {"bytes": png(1), "path": None}
ROW = {"image": "a.png", "question": "Which?", "answer": "a"}


def sentences(given: object, kind: type = UnderstandingSample) -> list[str]:
    samples, problems, _ = found(kind, given)
    assert samples == []
    return [problem.reason for problem in problems]


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize(
    ("values", "inside"),
    [
        ({"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1}]}, ".annotations[]"),
        ({"info": {}, "questions": [{"question": "q", "image_id": 1}]}, ".questions[]"),
        ({"dataset_name": "docvqa", "data": [{"question": "q"}]}, ".data[]"),
        ({"201307251": {"imageId": "2386621", "question": "q", "answer": "no"}}, ".[]"),
    ],
)
def test_an_object_around_all_records_is_one_sentence(tmp_path, values, inside, indent):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(values, indent=indent))
    (reason,) = sentences(path)
    assert reason.endswith(f"must be JSON Lines or an array: jq -c '{inside}' x.json > x.jsonl")


@pytest.mark.parametrize("indent", [None, 1])
def test_an_object_alone_is_a_record(tmp_path, indent):
    path = tmp_path / "x.json"
    path.write_text("\ufeff" + json.dumps(ROW, indent=indent))
    (sample,), problems, _ = found(UnderstandingSample, path)
    assert (sample.question, problems) == ("Which?", [])


def test_lines_after_a_broken_first_line_are_read(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"image": \n' + json.dumps(ROW) + "\n" + json.dumps(ROW | {"question": "q"}))
    samples, problems, _ = found(UnderstandingSample, path)
    assert ([one.question for one in samples], [problem.line for problem in problems]) == (
        ["Which?", "q"],
        [1],
    )


def test_names_of_coco_are_filled_with_zeros(tmp_path):
    path = lines(tmp_path / "x.jsonl", {"image_id": 9, "caption": "a cat"})
    (sample,), _, _ = found(GenerationSample, f"{path}?image_path='val/{{image_id:012}}.jpg'")
    assert sample.image_path == str(tmp_path / "val" / "000000000009.jpg")


def test_answers_in_lists(tmp_path):
    path = parquet(tmp_path / "x.parquet", {"image": IMAGE, "query": "How many?", "label": ["14"]})
    (sample,), _, _ = found(UnderstandingSample, f"{path}?answer=label", tmp_path / "p")
    assert (sample.question, sample.answer) == ("How many?", "14")
    path = lines(tmp_path / "y.jsonl", {"image": "a.png", "question": "q", "answers": ["x", "y"]})
    (reason,) = sentences(path)
    assert reason.endswith("?answer=COLUMN names the one to take, or a part of one: ?answer=answers.0")
    (reason,) = sentences(f"{path}?answer=answers")
    assert reason == "must be a string, not ['x', 'y']; ?answer=COLUMN.0 takes the first"
    (sample,), _, _ = found(UnderstandingSample, f"{path}?answer=answers.0")
    assert sample.answer == "x"


def test_what_a_column_holds_is_named(tmp_path):
    path = lines(tmp_path / "x.jsonl", {"images": ["a.png"], "texts": [{"user": "q", "assistant": "a"}]})
    question, answer = sentences(path)
    assert question.endswith("or a part of one: ?question=texts.0.user")
    assert answer.endswith("or a part of one: ?answer=texts.0.assistant")
    settings = "?question=texts.0.user&answer=texts.0.assistant"
    (sample,), _, _ = found(UnderstandingSample, f"{path}{settings}")
    assert (sample.question, sample.answer) == ("q", "a")


def test_columns_in_capitals(tmp_path):
    path = lines(tmp_path / "x.jsonl", {"Image": "a.png", "QUESTION": "q", "Answer": "a", "ID": "7"})
    (sample,), _, _ = found(UnderstandingSample, path)
    assert (sample.question, sample.answer, sample.model_dump()["ID"]) == ("q", "a", "7")
    assert sample.id != "7"


@pytest.mark.parametrize(
    "answer",
    [
        "答案：B",
        "正确答案是B",
        "选B",
        "$B$",
        "`B`",
        r"\boxed{\text{B}}",
        r"$$\boxed{B}.$$",
        "<think>A?</think>\nB",
        ["B"],
    ],
)
def test_answers_name_the_second_option(tmp_path, answer):
    row = {**ROW, "options": ["红", "蓝"], "answer": answer}
    (sample,), problems, _ = found(UnderstandingSample, lines(tmp_path / "x.jsonl", row))
    assert (sample.answer, problems) == ("B", [])


@pytest.mark.parametrize("answer", ["A, B", "AB", "选A或B", "<think>B", "C", "答案"])
def test_answers_that_name_none(tmp_path, answer):
    row = {**ROW, "options": ["红", "蓝"], "answer": answer}
    assert len(sentences(lines(tmp_path / "x.jsonl", row))) == 1


def test_a_number_in_quotes_is_told_how_to_be_read(tmp_path):
    row = {**ROW, "options": ["red", "blue", "green"], "answer": "2"}
    path = lines(tmp_path / "x.jsonl", row)
    (reason,) = sentences(path)
    assert reason.endswith("; ?answers=index0 or ?answers=index1 takes it as a position")
    assert [found(UnderstandingSample, f"{path}?answers=index{n}")[0][0].answer for n in (0, 1)] == ["C", "B"]
    (reason,) = sentences(lines(tmp_path / "y.jsonl", row | {"answer": "3"}))
    assert reason.endswith("; ?answers=index1 takes it as a position")


@pytest.mark.parametrize("head", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(("suffix", "delimiter"), [("csv", ";"), ("csv", "\t"), ("csv", "|"), ("tsv", ",")])
def test_delimiters_that_the_suffix_does_not_tell(tmp_path, suffix, delimiter, head, end):
    rows = [
        ["image", "question", "answer"],
        ["a.png", '"x, y; z | é"', "a"],
        ["", "", ""],
        ["b.png", "q", "b"],
    ]
    path = tmp_path / f"x.{suffix}"
    path.write_bytes((head + end.join(delimiter.join(row) for row in rows) + end).encode())
    samples, problems, _ = found(UnderstandingSample, path)
    assert ([one.question for one in samples], problems) == (["x, y; z | é", "q"], [])


def test_the_delimiter_that_excel_names(tmp_path):
    (tmp_path / "x.csv").write_text("sep=;\nimage; question ;answer\na.png;q, r;a\nb.png;q\n")
    (sample,), (problem,), _ = found(UnderstandingSample, tmp_path / "x.csv")
    assert (sample.question, sample.model_dump()["source"]) == ("q, r", "x.csv:3")
    assert str(problem).endswith("x.csv, line 4: has 2 cells, but the header has 3")


def test_an_empty_cell_is_no_missing_column(tmp_path):
    (tmp_path / "x.csv").write_text("image,question,answer,label\na.png,q,,\n")
    assert sentences(tmp_path / "x.csv") == ["is missing; column answer is empty here"]
    assert sentences(f"{tmp_path / 'x.csv'}?answer=label") == [
        "must be a string, not None: the row has no value there"
    ]


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n"


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "tar", "parquet"])
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (POINTER, "is a pointer of Git LFS, not the data; run git lfs pull"),
        (b"\n<!DOCTYPE html><html></html>", "is a web page, not the data; download it again"),
        (bz2.compress(b"x"), "is compressed (bzip2); unpack it first"),
        (b"PK\x03\x04 and so on", "is compressed (zip); unpack it first"),
    ],
)
def test_files_that_are_no_data(tmp_path, suffix, data, reason):
    (tmp_path / f"x.{suffix}").write_bytes(data)
    assert sentences(tmp_path / f"x.{suffix}") == [reason]


def test_packed_files_by_name(tmp_path):
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(json.dumps(ROW).encode()))
    with pytest.raises(ValueError, match=r"x\.jsonl\.gz is compressed \(gzip\); unpack it first"):
        found(UnderstandingSample, tmp_path / "x.jsonl.gz")
    assert sentences(f"jsonl:{tmp_path / 'x.jsonl.gz'}") == ["is compressed (gzip); unpack it first"]
    (tmp_path / "x.xlsx").write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match="is a spreadsheet; save it as CSV in UTF-8"):
        found(UnderstandingSample, tmp_path / "x.xlsx")
    packed = tar_of(tmp_path / "x.tgz", [("1.png", png(1)), ("1.txt", b"a cat")], "w:gz")
    assert len(found(GenerationSample, packed, tmp_path / "p")[0]) == 1


@pytest.mark.parametrize(
    "form",
    [
        "{}",
        "base64,{}",
        "image/png;base64,{}",
        "base64://{}",
        "data:image/png;base64, {}",
        "b'{}'",
        '"{}"',
        " {}\n",
    ],
)
def test_base64_as_it_is_written(tmp_path, form):
    text = form.format(base64.b64encode(png(1)).decode())
    (sample,), problems, _ = found(
        UnderstandingSample, lines(tmp_path / "x.jsonl", {**ROW, "image": text}), tmp_path / "p"
    )
    assert (Path(sample.image_path).read_bytes(), problems) == (png(1), [])


def test_paths_from_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.png").write_bytes(png(1))
    lines(tmp_path / "x.jsonl", {**ROW, "image": "~/a.png"})
    assert sentences("~/x.jsonl") == [
        "'~/a.png' is absolute; ?images=FOLDER opens the folder that it lies in"
    ]
    (sample,), _, _ = found(UnderstandingSample, "~/x.jsonl?images=~/")
    assert os.path.samefile(sample.image_path, tmp_path / "a.png")
    (tmp_path / "sub").mkdir()
    (reason,) = sentences("~/x.jsonl?images=~/sub")
    assert "is absolute and lies outside" in reason


def test_paths_in_letters_that_macos_takes_apart(tmp_path):
    for name, form in (("ü.png", "NFD"), (unicodedata.normalize("NFD", "é.png"), "NFC")):
        (tmp_path / unicodedata.normalize(form, name)).write_bytes(png(1))
        (sample,), _, _ = found(UnderstandingSample, lines(tmp_path / "x.jsonl", {**ROW, "image": name}))
        assert Path(sample.image_path).is_file()


def test_a_data_set_of_the_hub_with_a_description(tmp_path):
    (tmp_path / "data").mkdir()
    parquet(tmp_path / "data" / "train-00000-of-00001.parquet", {"image": IMAGE, "text": "a cat"})
    (tmp_path / "dataset_infos.json").write_text('{"default": {"splits": {}}}')
    with pytest.raises(ValueError, match="holds json and parquet files; write FORMAT:"):
        found(GenerationSample, tmp_path)
    (sample,), problems, _ = found(GenerationSample, f"parquet:{tmp_path}", tmp_path / "p")
    assert (sample.prompt, problems) == ("a cat", [])


def test_a_path_among_the_words(tmp_path):
    asked = "Picture 1: <img>sub/a.png</img>\nWhich?"
    turns = [{"from": "user", "value": asked}, {"from": "assistant", "value": "a cat"}]
    (sample,), problems, _ = found(UnderstandingSample, lines(tmp_path / "x.jsonl", {"conversations": turns}))
    assert (sample.question, sample.image_path, problems) == ("Which?", str(tmp_path / "sub/a.png"), [])


def test_marks_of_objects_and_boxes(tmp_path):
    turns = [
        {"role": "user", "content": "<image>Find <ref-object>"},
        {"role": "assistant", "content": "<bbox>"},
    ]
    row = {"messages": turns, "images": ["a.png"], "objects": {"ref": ["cat"], "bbox": [[1, 2, 3, 4]]}}
    assert found(UnderstandingSample, lines(tmp_path / "x.jsonl", row)) == (
        [],
        [],
        {"marks of objects and boxes": 1},
    )


@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        ({"raw": "a cat"}, "must be a string, not {'raw': 'a cat'}; ?prompt=COLUMN.KEY takes a part"),
        ([], "must be a string, not []"),
    ],
)
def test_captions_that_are_no_text(tmp_path, caption, reason):
    path = lines(tmp_path / "x.jsonl", {"image": "a.png", "caption": caption})
    assert sentences(path, GenerationSample) == [reason]


@pytest.mark.parametrize("mark", ["<|begin_of_image|><|image|><|end_of_image|>", "<|start_of_image|>"])
def test_marks_around_images(tmp_path, mark):
    (sample,), problems, _ = found(
        UnderstandingSample, lines(tmp_path / "x.jsonl", {**ROW, "question": f"{mark}Which?"})
    )
    assert (sample.question, problems) == ("Which?", [])


@pytest.mark.parametrize(
    "options", ["null", " None ", "nan", "[]", "['']", ["", ""], [None], {"A": None}, "{}"]
)
def test_options_that_are_none(tmp_path, options):
    row = {**ROW, "options": options, "answer": "blue"}
    (sample,), problems, _ = found(UnderstandingSample, lines(tmp_path / "x.jsonl", row))
    assert (sample.question, sample.answer, problems) == ("Which?", "blue", [])


@pytest.mark.parametrize("options", ["none of these", "red, blue", "red|blue", ["", "blue"], "null, None", 5])
def test_options_that_are_no_list(tmp_path, options):
    assert len(sentences(lines(tmp_path / "x.jsonl", {**ROW, "options": options, "answer": "blue"}))) == 1

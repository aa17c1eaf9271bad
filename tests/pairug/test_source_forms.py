"""Raw data in every form that is read: the same records come out, and each fault has its place."""

from __future__ import annotations

import csv
import io
import json
import sys
import tarfile
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pairuni.pairug.jsonl import Problem
from pairuni.pairug.sources import SampleReader, read_generation, read_understanding
from pairuni.pairug.sources.inputs import FIELDS, parse_input
from pairuni.records import GenerationSample, UnderstandingSample

DATA = Path(__file__).parents[2].parent / "shared" / "data"


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (shade, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def tar_of(path: Path, members: list[tuple[str, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def shard(path: Path, count: int = 3, mode: str = "w") -> Path:
    members = []
    for number in range(count):
        members += [(f"{number:05}.png", png(number)), (f"{number:05}.txt", f"picture {number}\n".encode())]
    return tar_of(path, members, mode)


def orsta_row(**changes: object) -> dict[str, object]:
    row: dict[str, object] = {
        "data_source": "CLEVR",
        "images": [{"bytes": png(1), "path": None}],
        "prompt": [{"role": "user", "content": "<image>\nHow many?"}],
        "ability": "Counting",
        "reward_model": {"answer": "2", "ground_truth": "\\boxed{2}", "verifier": "mathverify"},
        "extra_info": {"id": "7", "image_path": "x.png"},
    }
    return {**row, **changes}


def parquet(path: Path, *rows: dict[str, object]) -> Path:
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


def found(kind: type, given: object, pictures: Path | None = None) -> tuple[list, list[Problem], dict]:
    reading = SampleReader(str(given), kind, pictures)
    every = list(reading)
    samples = [one for one in every if not isinstance(one, Problem)]
    return samples, [one for one in every if isinstance(one, Problem)], dict(reading.left_out)


def captions(samples: list) -> list[tuple[str, str]]:
    return [(Path(one.image_path).read_bytes().hex(), one.prompt) for one in samples]


def test_every_form_of_generation_data_says_the_same(tmp_path):
    rows = []
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(png(number))
        (folder / f"{number}.txt").write_text(f"picture {number}")
        rows.append({"image_path": f"folder/{number}.png", "caption": f"picture {number}"})
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "b.json").write_text(json.dumps(rows, indent=1))
    with (tmp_path / "c.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["image_path", "caption"])
        writer.writeheader()
        writer.writerows(rows)
    parquet(tmp_path / "d.parquet", *rows)
    cells = [{"image": {"bytes": png(n), "path": f"{n}.png"}, "text": f"picture {n}"} for n in range(3)]
    parquet(tmp_path / "e.parquet", *cells)
    shard(tmp_path / "f.tar")
    shard(tmp_path / "g.tar.gz", mode="w:gz")
    expected = [(png(n).hex(), f"picture {n}") for n in range(3)]
    names = ("a.jsonl", "b.json", "c.csv", "d.parquet", "e.parquet", "f.tar", "g.tar.gz", "folder")
    for name in names:
        samples = read_generation(tmp_path / name, tmp_path / "pictures")
        assert captions(samples) == expected, name
        assert len({one.id for one in samples}) == 3
        assert all(one.tag and one.source.partition(":")[0] == name for one in samples)
    again = read_generation([tmp_path / name for name in ("a.jsonl", "f.tar")], tmp_path / "pictures")
    assert captions(again) == expected * 2
    written = [path for path in (tmp_path / "pictures").rglob("*") if path.is_file()]
    assert len(written) == 3, "a picture is written once, whoever holds it"


def test_ids_and_images_are_the_same_in_the_next_run(tmp_path):
    shard(tmp_path / "journey-00001.tar")
    first = read_generation(tmp_path / "journey-00001.tar", tmp_path / "p")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "p").rglob("*.png")}
    second = read_generation(tmp_path / "journey-00001.tar", tmp_path / "p")
    assert first == second
    assert first[0].id == "journey-00001/00000"
    assert first[0].tag == "journey"
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "p").rglob("*.png")}
    damaged = next(iter(times))
    damaged.write_bytes(damaged.read_bytes()[:-3])
    (damaged.parent / f".{damaged.name}.partial").write_bytes(b"what a kill left")
    assert read_generation(tmp_path / "journey-00001.tar", tmp_path / "p") == first
    assert [path.read_bytes() for path in sorted(times)] == [
        data for _, data in sorted((Path(one.image_path), png(n)) for n, one in enumerate(first))
    ]
    assert not list((tmp_path / "p").rglob("*.partial"))


def test_orsta_without_detection_and_grounding(tmp_path):
    path = parquet(
        tmp_path / "train_counting_clevr_4.parquet",
        orsta_row(),
        orsta_row(ability="Detection"),
        orsta_row(ability="grounding"),
        orsta_row(reward_model={"answer": "A", "ground_truth": "A", "verifier": "detection"}),
        orsta_row(images=[{"bytes": png(1), "path": None}, {"bytes": png(2), "path": None}]),
        orsta_row(images=[]),
    )
    (sample,), problems, left_out = found(UnderstandingSample, path, tmp_path / "p")
    assert (sample.question, sample.answer, sample.tag) == ("How many?", "2", "Counting")
    assert sample.data_source == "CLEVR"
    assert sample.extra_info == {"id": "7", "image_path": "x.png"}
    assert not {"prompt", "reward_model"} & sample.model_dump().keys()
    (named,), _, _ = found(UnderstandingSample, f"{path}?id=extra_info.id", tmp_path / "p")
    assert named.id == "7"
    assert Path(sample.image_path).read_bytes() == png(1)
    assert not problems
    assert left_out == {"detection": 2, "grounding": 1, "more than one image": 1, "no image": 1}
    samples, _, left_out = found(UnderstandingSample, f"{path}?leave_out=", tmp_path / "p")
    assert [one.tag for one in samples] == ["Counting", "Detection", "grounding", "Counting"]
    assert "detection" not in left_out


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_conversations(tmp_path, suffix):
    rows = [
        {
            "id": "1",
            "image": "a.jpg",
            "conversations": [
                {"from": "human", "value": "<image>\nWhat is it?"},
                {"from": "gpt", "value": "A cat."},
                {"from": "human", "value": "Sure?"},
                {"from": "gpt", "value": "Yes."},
            ],
        },
        {"id": "2", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
        {
            "id": "3",
            "images": ["b.jpg"],
            "messages": [
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "And this?"}]},
                {"role": "assistant", "content": "A dog."},
            ],
        },
        {"id": "4", "image": "a.jpg", "conversations": [{"from": "human", "value": "Hi"}]},
    ]
    path = tmp_path / f"llava.{suffix}"
    path.write_text(json.dumps(rows) if suffix == "json" else "".join(json.dumps(row) + "\n" for row in rows))
    samples, (problem,), left_out = found(UnderstandingSample, path)
    assert [(s.question, s.answer) for s in samples] == [("What is it?", "A cat."), ("And this?", "A dog.")]
    assert "has no question that is followed by a reply" in str(problem)
    assert left_out == {"no image": 1}
    samples, _, _ = found(GenerationSample, path)
    assert [s.prompt for s in samples] == ["A cat.", "A dog."]


def test_images_in_another_folder_stay_in_it(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco" / "a.png").write_bytes(png(1))
    path = tmp_path / "data" / "x.jsonl"
    lines = [{"image": "a.png", "caption": "red"}, {"image": "../a.png", "caption": "out"}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (sample,), (problem,), _ = found(GenerationSample, f"{path}?images={tmp_path / 'coco'}")
    assert Path(sample.image_path).read_bytes() == png(1)
    assert str(problem).startswith(f"{path}, line 2, field image_path: '../a.png' lies outside")
    with pytest.raises(FileNotFoundError, match="no such folder of images"):
        read_generation(f"{path}?images={tmp_path / 'none'}")


def test_columns_are_named_nested_filled_or_constant(tmp_path):
    row = {"picture": {"file": "a.png"}, "said": "it is red", "truth": [True, False], "n": 3, "tag": "old"}
    (tmp_path / "x.jsonl").write_text(json.dumps(row))
    query = "image_path=picture.file&question='{said}, {n} times & more?'&answer=truth.0&tag='mine'&id='{n}-{said}'"
    (sample,) = read_understanding(f"{tmp_path}/x.jsonl?{query}")
    assert sample.question == "it is red, 3 times & more?"
    assert (sample.answer, sample.tag, sample.id) == ("true", "mine", "3-it is red")
    _, (problem,), _ = found(UnderstandingSample, f"{tmp_path}/x.jsonl?image_path=picture.name")
    assert "has no column picture.name; it has picture, said, truth, n, tag" in str(problem)
    _, problems, _ = found(UnderstandingSample, tmp_path / "x.jsonl")
    assert "field image_path: is missing; the columns are picture, said" in str(problems[0])


@pytest.mark.parametrize(
    ("options", "answer", "question", "letter"),
    [
        (["red", "blue"], "blue", "which? A. red B. blue Answer with", "B"),
        ([1, 2], 2, "which? A. 1 B. 2 Answer with", "B"),
        (["red", "blue"], "A", "which? A. red B. blue Answer with", "A"),
        (["red", "blue"], "green", None, "'green' is none of the options 'red', 'blue'"),
        (["red", "Red"], "red", None, "the options 'red' and 'Red' are the same"),
        (["2", "3", "4"], "AB", None, "'AB' is none of the options '2', '3', '4'"),
        ([str(n) for n in range(9)], "3", None, "there are 9 options; at most 8"),
    ],
)
def test_options_get_letters(tmp_path, options, answer, question, letter):
    row = {"image": "a.png", "question": "which?", "answer": answer, "options": options}
    (tmp_path / "x.jsonl").write_text(json.dumps(row))
    samples, problems, _ = found(UnderstandingSample, tmp_path / "x.jsonl")
    if question is None:
        assert letter in str(problems[0])
    else:
        assert samples[0].question.startswith(question)
        assert samples[0].answer == letter


def test_a_question_that_lists_its_options_stays(tmp_path):
    row = {"image": "a.png", "question": "which? A. x B. y", "answer": "B", "options": ["x", "y"]}
    (tmp_path / "x.jsonl").write_text(json.dumps(row))
    (sample,) = read_understanding(tmp_path / "x.jsonl")
    assert (sample.question, sample.answer) == ("which? A. x B. y", "B")


@pytest.mark.parametrize("question", ["Which is George B. Shaw's play?", "What is step B: the oven?"])
def test_a_letter_in_a_question_is_no_list_of_options(tmp_path, question):
    row = {"image": "a.png", "question": question, "answer": "y", "options": ["x", "y"]}
    (tmp_path / "x.jsonl").write_text(json.dumps(row))
    (sample,) = read_understanding(tmp_path / "x.jsonl")
    assert sample.question.startswith(f"{question} A. x B. y ")
    assert sample.answer == "B"


def test_what_a_tar_holds_and_is_not_taken_is_counted(tmp_path):
    members = [
        *(("0.a.png", png(4)), ("0.a.txt", b"before any record")),
        *(("1.png", png(1)), ("1.txt", b"one")),
        *(("2.png", png(2)), ("2.jpg", png(3)), ("2.txt", b"two pictures")),
        *(("3.b.png", png(4)), ("3.b.txt", b"a name of two dots")),
        *(("4.png", png(5)), ("4.txt", b"four"), ("4.mask.png", png(6))),
        *(("5.c.png", png(4)), ("5.c.txt", b"and another")),
    ]
    samples, problems, left_out = found(GenerationSample, tar_of(tmp_path / "x.tar", members), tmp_path / "p")
    assert ([one.prompt for one in samples], problems) == (["one", "four"], [])
    assert left_out == {"more than one image": 1, "names with several dots in a tar, such as 1.2.jpg": 3}


def test_a_further_column_that_is_no_unicode_is_not_kept(tmp_path):
    (tmp_path / "x.jsonl").write_text(r'{"image": "a.png", "caption": "x", "note": "\ud83d", "kept": 1}')
    (sample,) = read_generation(tmp_path / "x.jsonl")
    assert sample.model_dump()["kept"] == 1
    assert "note" not in sample.model_dump()


def test_a_long_constant_is_no_path(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"image": "a.png"}')
    words = "word " * 100
    (sample,) = read_generation(f"{tmp_path / 'x.jsonl'}?prompt='{words}'")
    assert sample.prompt == words.strip()


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_cut_anywhere_gives_what_is_whole_and_one_sentence(tmp_path, mode):
    whole = shard(tmp_path / "w.tar", 4, mode).read_bytes()
    last = len(whole) - (tarfile.RECORDSIZE if mode == "w" else 1)
    for length in range(0, last, 97 if mode == "w" else 7):
        path = tmp_path / "cut.tar"
        path.write_bytes(whole[:length])
        samples, problems, _ = found(GenerationSample, path, tmp_path / "p")
        assert captions(samples) == [(png(n).hex(), f"picture {n}") for n in range(len(samples))]
        assert len(samples) < 4 or mode == "w:gz"
        (problem,) = problems
        assert "is truncated or damaged" in str(problem)
        assert f"; {len(samples):,} record" in str(problem)


def test_a_tar_with_a_damaged_header_is_not_silently_shorter(tmp_path):
    path = shard(tmp_path / "x.tar", 3)
    data = bytearray(path.read_bytes())
    data[2048 + 10] ^= 0xFF  # in the header of 00001.png
    path.write_bytes(data)
    samples, (problem,), _ = found(GenerationSample, path, tmp_path / "p")
    assert len(samples) <= 1
    assert "there is no end mark" in str(problem)


def test_faulty_members_are_named(tmp_path):
    members = [
        *(("a.png", png(1)), ("a.txt", b"caf\xe9")),
        *(("b.txt", b"no image"), ("c.png", png(2)), ("c.json", b"[1]")),
        *(("d.png", b""), ("d.txt", b"empty")),
        *(("../../e.png", png(3)), ("../../e.txt", b"leaves no trace")),
        *(("f.png", b"not a picture"), ("f.txt", b"kept: the encoder sets it aside by name")),
        *(("g.png", png(4)), ("g.txt", b" ")),
    ]
    path = tar_of(tmp_path / "x.tar", members)
    samples, problems, _ = found(GenerationSample, path, tmp_path / "p")
    assert [str(problem).removeprefix(f"{path}, ") for problem in problems] == [
        "member a.txt: is not UTF-8 text (byte 4)",
        "member b, field image_path: there is no image with this key",
        "member c.json: must be a JSON object, not list",
        "member d, field image_path: the image is empty",
        "member g, field prompt: must not be empty",
    ]
    assert [Path(one.image_path).suffix for one in samples] == [".png", ".png"]
    assert all(Path(one.image_path).is_relative_to(tmp_path / "p") for one in samples)


def test_faulty_text_files(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"image,caption\na.png,good\nb.png,caf\xe9\nc.png\nd.png,\n")
    samples, problems, _ = found(GenerationSample, tmp_path / "a.csv")
    assert [one.prompt for one in samples] == ["good"]
    said = [str(problem).removeprefix(f"{tmp_path / 'a.csv'}, ") for problem in problems]
    assert said[:2] == [
        "line 3, field caption: is not UTF-8 text",
        "line 4: has 1 cell, but the header has 2",
    ]
    assert said[2].startswith("line 5, field prompt: is missing; column caption is empty here")
    (tmp_path / "b.json").write_text('[{"image": "a.png", "caption": "x"}, 3, {"image": "b.png", "cap')
    samples, problems, _ = found(GenerationSample, tmp_path / "b.json")
    assert len(samples) == 1
    assert [problem.member for problem in problems] == ["entry 2", "entry 3"]
    assert "is not valid JSON" in str(problems[1])
    folder = tmp_path / "folder" / "cats"
    folder.mkdir(parents=True)
    for name in "abc":
        (folder / f"{name}.png").write_bytes(png(1))
    (folder / "a.txt").write_bytes(b"\xff")
    (folder / "b.txt").write_text("a cat")
    samples, problems, _ = found(GenerationSample, tmp_path / "folder")
    assert [(one.id, one.tag, one.prompt) for one in samples] == [("cats/b", "cats", "a cat")]
    assert "cats/a.png: a.txt is not UTF-8 text" in str(problems[0])
    assert "cats/c.png: has no text next to it" in str(problems[1])


@pytest.mark.parametrize(
    ("text", "count", "reason"),
    [
        ('[{"image": "a.png", "text": "x"} {"image": "b.png", "text": "y"}]', 1, "entry 1: lacks a comma"),
        ('[{"image": "a.png", "text": "x"}] []', 1, "continues after the closing bracket"),
        ('[{"image": "a.png", "text": "x"}]\n \n', 1, None),
        ('[{"image": "a.png", "text": "x"},,{}]', 1, "entry 2: is not valid JSON"),
    ],
)
def test_arrays_that_are_no_json_are_not_read_as_if_they_were(tmp_path, monkeypatch, text, count, reason):
    for chunk in (1 << 20, 3):
        monkeypatch.setattr("pairuni.pairug.sources.readers.json_files._CHUNK", chunk)
        (tmp_path / "a.json").write_text(text)
        samples, problems, _ = found(GenerationSample, tmp_path / "a.json")
        assert len(samples) == count
        assert (reason is None and not problems) or reason in str(problems[0])


def test_a_table_with_two_columns_of_one_name_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("image,text,text\na.png,x,y\n")
    samples, (problem,), _ = found(GenerationSample, tmp_path / "a.csv")
    assert not samples
    assert "several columns called 'text'" in str(problem)


def test_texts_beside_images_in_capitals(tmp_path):
    (tmp_path / "B.PNG").write_bytes(png(1))
    (tmp_path / "B.TXT").write_text("in capitals")
    ((sample,), problems, _) = found(GenerationSample, tmp_path)
    assert (sample.prompt, problems) == ("in capitals", [])


def test_an_array_is_decoded_across_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr("pairuni.pairug.sources.readers.json_files._CHUNK", 7)
    rows = [{"image": f"{n}.png", "caption": f"ü {n} ]}}, {{["} for n in range(20)]
    (tmp_path / "a.json").write_text(json.dumps(rows, ensure_ascii=False))
    assert [one.prompt for one in read_generation(tmp_path / "a.json")] == [row["caption"] for row in rows]


def test_faulty_parquet(tmp_path):
    whole = parquet(tmp_path / "a.parquet", *(orsta_row() for _ in range(5))).read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[: len(whole) // 2])
    samples, (problem,), _ = found(UnderstandingSample, tmp_path / "a.parquet", tmp_path / "p")
    assert not samples
    assert "is not a valid parquet file" in str(problem)
    row = orsta_row()
    del row["reward_model"]
    path = parquet(tmp_path / "b.parquet", row)
    with pytest.raises(ValueError, match="field question: is missing; the columns are data_source, images"):
        read_understanding(path, tmp_path / "p")
    path = parquet(tmp_path / "c.parquet", {"image": {"bytes": None, "path": "/etc/passwd"}, "caption": "x"})
    _, (problem,), _ = found(GenerationSample, path, tmp_path / "p")
    assert "'/etc/passwd' is absolute" in str(problem)


def test_forms_that_cannot_be_told(tmp_path):
    (tmp_path / "data.xyz").write_text('{"image": "a.png", "caption": "x"}')
    with pytest.raises(ValueError, match=r"its name does not tell its format; write FORMAT:.*data\.xyz with"):
        read_generation(tmp_path / "data.xyz")
    assert len(read_generation(f"jsonl:{tmp_path / 'data.xyz'}")) == 1
    (tmp_path / "a.jsonl").write_text("")
    shard(tmp_path / "b.tar")
    with pytest.raises(ValueError, match="holds jsonl and webdataset files; write FORMAT:"):
        read_generation(tmp_path)
    assert len(read_generation(f"webdataset:{tmp_path}", tmp_path / "p")) == 3
    assert len(read_generation(f"{tmp_path}/*.tar", tmp_path / "p")) == 3
    with pytest.raises(ValueError, match="holds its images inside"):
        read_generation(tmp_path / "b.tar")
    with pytest.raises(
        ValueError, match="pictur is not known after the question mark; known: id, image_path"
    ):
        parse_input("x.jsonl?pictur=a")
    with pytest.raises(FileNotFoundError, match="no such file or folder of raw samples"):
        read_generation(tmp_path / "none.jsonl")


def test_ids_differ_over_all_inputs(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_text('{"id": 1, "image": "a.png", "caption": "x"}\n')
    with pytest.raises(ValueError, match=r"b\.jsonl, line 1, field id: '1' is also that of a\.jsonl:1"):
        read_generation([tmp_path / "a.jsonl", tmp_path / "b.jsonl"])
    samples = read_generation([f"{tmp_path}/a.jsonl?id=", f"{tmp_path}/b.jsonl?id="])
    assert samples[1].id == f"{samples[0].id}-2"


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=300), suffix=st.sampled_from(["jsonl", "json", "csv", "tar", "parquet"]))
def test_no_bytes_raise_anything_but_a_sentence(tmp_path_factory, data, suffix):
    path = tmp_path_factory.mktemp("bytes") / f"x.{suffix}"
    path.write_bytes(data)
    for kind in (UnderstandingSample, GenerationSample):
        for one in SampleReader(path, kind, path.parent / "p"):
            assert str(one)


def test_hub_data_sets_are_streamed(tmp_path):
    pytest.importorskip("datasets")
    rows = [{"image": {"bytes": png(n), "path": None}, "text": f"picture {n}"} for n in range(3)]
    (tmp_path / "set").mkdir()
    parquet(tmp_path / "set" / "train.parquet", *rows)
    samples = read_generation(f"hub:{tmp_path / 'set'}", tmp_path / "p")
    assert captions(samples) == [(png(n).hex(), f"picture {n}") for n in range(3)]
    with pytest.raises(ValueError, match="cannot be read by datasets"):
        read_generation(f"hub:{tmp_path / 'set'}?split=test", tmp_path / "p")


def test_without_datasets_there_is_the_install_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'pairuni\[hub\]'"):
        read_generation("hub:someone/pictures", tmp_path)


@pytest.mark.skipif(not DATA.is_dir(), reason="the data folder is not beside the repository")
def test_real_files_as_they_are():
    statement = "question='{sentence} Is that true or false?'&answer=label&tag='nlvr'"
    asked = read_understanding([f"{DATA}/puzzlevqa", f"{DATA}/nlvr_dev/dev.jsonl?{statement}"])
    told = read_generation([f"{DATA}/coco_by", DATA / "puzzlevqa"])
    assert (len(asked), len(told)) == (1000 + 989, 51 + 1000)
    assert all(Path(one.image_path).is_file() for one in [*asked, *told])
    puzzles = [one for one in asked if one.tag != "nlvr"]
    assert all(one.answer in "ABCDEFGH" and f" {one.answer}. " in one.question for one in puzzles)
    assert {one.answer for one in asked if one.tag == "nlvr"} == {"true", "false"}
    assert len({one.tag for one in asked}) == 21


def test_memory_does_not_grow_with_the_file(tmp_path):
    def peak(count: int) -> int:
        rows = (
            (f"{n:05}{suffix}", data)
            for n in range(count)
            for suffix, data in ((".png", png(1) + bytes(200_000) + str(n).encode()), (".txt", b"x" * 100))
        )
        path = tar_of(tmp_path / f"{count}.tar", list(rows))
        tracemalloc.start()
        assert sum(1 for _ in SampleReader(path, GenerationSample, tmp_path / "p")) == count
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    few, many = peak(10), peak(100)
    assert many < few + 500_000, f"{few:,} and {many:,} bytes for 2 and 20 MB"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
COLUMNS = [
    *FIELDS,
    "image",
    "images",
    "conversations",
    "messages",
    "reward_model",
    "ability",
    "captions",
    "x",
]


@settings(max_examples=300, deadline=None)
@given(row=st.dictionaries(st.sampled_from(COLUMNS), VALUES))
def test_any_row_is_a_sample_or_a_sentence_or_left_out(tmp_path_factory, row):
    path = tmp_path_factory.mktemp("row") / "x.jsonl"
    path.write_text(json.dumps(row), encoding="utf-8")
    for kind in (UnderstandingSample, GenerationSample):
        samples, problems, left_out = found(kind, path, path.parent / "p")
        assert bool(samples) + bool(problems) + bool(left_out) == 1
        assert all(str(problem).startswith(f"{path}, line 1") for problem in problems)
        for sample in samples:
            json.dumps(sample.model_dump(), allow_nan=False).encode()


@settings(max_examples=100, deadline=None)
@given(at=st.integers(0, 4 * 2048 - 1), bit=st.integers(0, 7), gz=st.booleans())
def test_a_flipped_bit_in_a_tar_never_loses_a_record_silently(tmp_path_factory, at, bit, gz):
    folder = tmp_path_factory.mktemp("flip")
    path = shard(folder / "x.tar", 4, "w:gz" if gz else "w")
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 1 << bit
    path.write_bytes(data)
    samples, problems, _ = found(GenerationSample, path, folder / "p")
    assert len(samples) == 4 or problems


def test_a_tar_without_records_says_what_it_holds(tmp_path):
    path = tar_of(tmp_path / "x.tar", [("photo.1.jpg", png(1)), ("photo.1.txt", b"x")])
    _, (problem,), _ = found(GenerationSample, path, tmp_path / "p")
    assert str(problem).startswith(
        f"{path}: holds no records: what follows the first dot of photo and others is not an image"
    )
    _, (problem,), _ = found(GenerationSample, tar_of(tmp_path / "y.tar", []), tmp_path / "p")
    assert str(problem) == f"{tmp_path / 'y.tar'}: holds no records"


def test_an_image_folder_with_metadata(tmp_path):
    (tmp_path / "a.png").write_bytes(png(1))
    (tmp_path / "metadata.csv").write_text("file_name,text\na.png,red\n")
    (sample,) = read_generation(tmp_path)
    assert captions([sample]) == [(png(1).hex(), "red")]


def test_a_image_that_is_too_large_is_refused_in_time(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pairuni.pairug.sources.readers.tars.MOST_BYTES", 2048)
        path = tar_of(
            tmp_path / "x.tar", [("a.png", bytes(4096)), ("a.txt", b"x"), ("b.png", png(1)), ("b.txt", b"y")]
        )
        samples, (problem,), _ = found(GenerationSample, path, tmp_path / "p")
    assert [one.prompt for one in samples] == ["y"]
    assert str(problem).startswith(f"{path}, a.png: is larger than")

"""Raw data in every format: the same records come out, and every fault has its place."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import sys
import tracemalloc
from pathlib import Path

import pytest

from pairuni.pairug.sources import SampleReader
from pairuni.pairug.sources.inputs import parse_input
from pairuni.records import GenerationSample
from source_data import (
    captioned,
    encoded,
    generated,
    lines,
    orsta_row,
    parquet,
    png,
    read_generation,
    read_understanding,
    tar_of,
    understood,
)

DATA = Path(__file__).parents[2].parent / "shared" / "data"
ROW = {"image": "a.png", "question": "Which?", "answer": "a"}
CAPTIONS = [(png(n).hex(), f"image {n}") for n in range(3)]


def captions(samples: list[GenerationSample]) -> list[tuple[str, str]]:
    return [(Path(one.image_path).read_bytes().hex(), one.prompt) for one in samples]


def test_every_format_of_generation_data_gives_the_same_samples(tmp_path):
    rows = [{"image_path": f"folder/{n}.png", "caption": f"image {n}"} for n in range(3)]
    (tmp_path / "folder").mkdir()
    for n in range(3):
        (tmp_path / "folder" / f"{n}.png").write_bytes(png(n))
        (tmp_path / "folder" / f"{n}.txt").write_text(f"image {n}")
    lines(tmp_path / "a.jsonl", *rows)
    (tmp_path / "b.json").write_text(json.dumps(rows, indent=1))
    with (tmp_path / "c.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["image_path", "caption"])
        writer.writeheader()
        writer.writerows(rows)
    parquet(tmp_path / "d.parquet", *rows)
    inside = [{"image": {"bytes": png(n), "path": f"{n}.png"}, "text": f"image {n}"} for n in range(3)]
    parquet(tmp_path / "e.parquet", *inside)
    tar_of(tmp_path / "f.tar", captioned(3))
    tar_of(tmp_path / "g.tar.gz", captioned(3), "w:gz")
    (tmp_path / "h").mkdir()
    (tmp_path / "h" / "metadata.csv").write_bytes((tmp_path / "c.csv").read_bytes().replace(b"folder/", b""))
    for n in range(3):
        (tmp_path / "h" / f"{n}.png").write_bytes(png(n))
    for name in ("a.jsonl", "b.json", "c.csv", "d.parquet", "e.parquet", "f.tar", "g.tar.gz", "folder", "h"):
        samples = read_generation(tmp_path / name, tmp_path / "kept")
        assert captions(samples) == CAPTIONS, name
        assert len({one.id for one in samples}) == 3
        assert all(one.tag for one in samples)
        source = "metadata.csv" if name == "h" else name
        assert {one.source.partition(":")[0] for one in samples} == {source}
    both = read_generation([tmp_path / name for name in ("a.jsonl", "f.tar")], tmp_path / "kept")
    assert captions(both) == CAPTIONS * 2
    written = [path for path in (tmp_path / "kept").rglob("*") if path.is_file()]
    assert len(written) == 3, "an image is written once, whatever holds it"


def test_ids_and_images_are_the_same_in_the_next_run(tmp_path):
    path = tar_of(tmp_path / "journey-00001.tar", captioned(3))
    first = read_generation(path, tmp_path / "p")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "p").rglob("*.png")}
    assert read_generation(path, tmp_path / "p") == first
    assert (first[0].id, first[0].tag) == ("journey-00001/00000", "journey")
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "p").rglob("*.png")}
    damaged = next(iter(times))
    damaged.write_bytes(damaged.read_bytes()[:-3])
    (damaged.parent / f".{damaged.name}.partial").write_bytes(b"left by a kill")
    assert read_generation(path, tmp_path / "p") == first
    assert captions(first) == CAPTIONS
    assert not list((tmp_path / "p").rglob("*.partial"))


@pytest.mark.parametrize(
    ("name", "text", "prompts", "problems"),
    [
        (
            "b.json",
            '[{"image": "a.png", "caption": "x"}, 3, {"image": "b.png", "cap',
            ["x"],
            ["entry 2: must be a JSON object", "entry 3: is not valid JSON"],
        ),
        (
            "b.json",
            '[{"image": "a.png", "text": "x"} {"image": "b.png", "text": "y"}]',
            ["x"],
            ["entry 1: lacks a comma"],
        ),
        ("b.json", '[{"image": "a.png", "text": "x"}] []', ["x"], ["continues after the closing bracket"]),
        ("b.json", '[{"image": "a.png", "text": "x"}]\n \n', ["x"], []),
        ("b.json", '[{"image": "a.png", "text": "x"},,{}]', ["x"], ["entry 2: is not valid JSON"]),
        (
            "b.json",
            '{"image": \n{"image": "a.png", "text": "x"}\n{"image": "a.png", "text": "y"}',
            ["x", "y"],
            ["line 1: is not valid JSON"],
        ),
        (
            "a.csv",
            "image,caption\na.png,good\nb.png,\n",
            ["good"],
            ["line 3, field prompt: is missing; column caption is empty here"],
        ),
    ],
    ids=range(7),
)
def test_faults_of_text_files(tmp_path, monkeypatch, name, text, prompts, problems):
    for chunk in (1 << 20, 3):
        monkeypatch.setattr("pairuni.pairug.sources.readers.json_files._CHUNK", chunk)
        (tmp_path / name).write_text(text)
        found = generated(tmp_path / name)
        assert (found.prompts, len(found.problems)) == (prompts, len(problems))
        for problem, fact in zip(found.problems, problems, strict=True):
            assert problem.startswith(f"{tmp_path / name}")
            assert fact in problem


def test_an_array_is_decoded_across_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr("pairuni.pairug.sources.readers.json_files._CHUNK", 7)
    rows = [{"image": f"{n}.png", "caption": f"ü {n} ]}}, {{["} for n in range(20)]
    (tmp_path / "a.json").write_text(json.dumps(rows, ensure_ascii=False))
    assert generated(tmp_path / "a.json").prompts == [row["caption"] for row in rows]


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
def test_an_object_around_all_records_is_refused_with_a_command(tmp_path, values, inside, indent):
    (tmp_path / "x.json").write_text(json.dumps(values, indent=indent))
    assert understood(tmp_path / "x.json").problem.endswith(f": jq -c '{inside}' x.json > x.jsonl")


@pytest.mark.parametrize("indent", [None, 1])
def test_a_single_object_is_a_record(tmp_path, indent):
    (tmp_path / "x.json").write_text("\ufeff" + json.dumps(ROW, indent=indent))
    assert understood(tmp_path / "x.json").sample.question == "Which?"


def test_faulty_parquet(tmp_path):
    path = parquet(tmp_path / "a.parquet", *(orsta_row() for _ in range(5)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "is not a valid parquet file" in understood(path, tmp_path / "p").problem
    row = orsta_row()
    del row["reward_model"]
    with pytest.raises(ValueError, match="field question: is missing; the columns are data_source, images"):
        read_understanding(parquet(tmp_path / "b.parquet", row), tmp_path / "p")
    path = parquet(tmp_path / "c.parquet", {"image": {"bytes": None, "path": "/etc/passwd"}, "caption": "x"})
    assert "'/etc/passwd' is absolute" in generated(path, tmp_path / "p").problem


def test_the_format_follows_from_the_name_or_the_prefix(tmp_path):
    path = lines(tmp_path / "data.xyz", {"image": "a.png", "caption": "x"})
    with pytest.raises(ValueError, match=r"does not follow from its name; write FORMAT:.*data\.xyz with"):
        read_generation(path)
    assert len(read_generation(f"jsonl:{path}")) == 1
    (tmp_path / "a.jsonl").write_text("")
    tar_of(tmp_path / "b.tar", captioned(3))
    with pytest.raises(ValueError, match="holds jsonl and webdataset files; write FORMAT:"):
        read_generation(tmp_path)
    assert len(read_generation(f"webdataset:{tmp_path}", tmp_path / "p")) == 3
    assert len(read_generation(f"{tmp_path}/*.tar", tmp_path / "p")) == 3
    with pytest.raises(ValueError, match="has embedded images"):
        read_generation(tmp_path / "b.tar")
    with pytest.raises(ValueError, match=r"pictur is not an option .* known: id, image_path"):
        parse_input("x.jsonl?pictur=a")
    for missing in (tmp_path / "none.jsonl", f"{path}?images={tmp_path / 'none'}"):
        with pytest.raises(FileNotFoundError, match=r"none.*no such"):
            read_generation(missing)


def test_a_hub_data_set_on_disk_with_a_description(tmp_path):
    (tmp_path / "data").mkdir()
    row = {"image": {"bytes": png(), "path": None}, "text": "a cat"}
    parquet(tmp_path / "data" / "train-00000-of-00001.parquet", row)
    (tmp_path / "dataset_infos.json").write_text('{"default": {"splits": {}}}')
    with pytest.raises(ValueError, match="holds json and parquet files; write FORMAT:"):
        generated(tmp_path)
    assert generated(f"parquet:{tmp_path}", tmp_path / "p").sample.prompt == "a cat"


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "tar", "parquet"])
@pytest.mark.parametrize(
    ("data", "fact"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", "run git lfs pull"),
        (b"\n<!DOCTYPE html><html></html>", "is a web page"),
        (bz2.compress(b"x"), "is compressed (bzip2)"),
        (b"PK\x03\x04 and so on", "is compressed (zip)"),
    ],
    ids=["pointer", "page", "bzip2", "zip"],
)
def test_files_that_are_not_data(tmp_path, suffix, data, fact):
    (tmp_path / f"x.{suffix}").write_bytes(data)
    assert fact in understood(tmp_path / f"x.{suffix}").problem


def test_compressed_files_by_name(tmp_path):
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(json.dumps(ROW).encode()))
    with pytest.raises(ValueError, match=r"x\.jsonl\.gz is compressed \(gzip\)"):
        understood(tmp_path / "x.jsonl.gz")
    assert "is compressed (gzip)" in understood(f"jsonl:{tmp_path / 'x.jsonl.gz'}").problem
    (tmp_path / "x.xlsx").write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match="is a spreadsheet; save it as CSV in UTF-8"):
        understood(tmp_path / "x.xlsx")


def test_hub_data_sets_are_streamed(tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    (tmp_path / "set").mkdir()
    rows = [{"image": {"bytes": png(n), "path": None}, "text": f"image {n}"} for n in range(3)]
    parquet(tmp_path / "set" / "train.parquet", *rows)
    assert captions(generated(f"hub:{tmp_path / 'set'}", tmp_path / "p").samples) == CAPTIONS
    with pytest.raises(ValueError, match="cannot be read by datasets"):
        read_generation(f"hub:{tmp_path / 'set'}?split=test", tmp_path / "p")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'pairuni\[hub\]'"):
        read_generation("hub:someone/images", tmp_path)


@pytest.mark.skipif(not DATA.is_dir(), reason="the data folder is not next to the repository")
def test_real_files_as_they_are():
    statement = "question='{sentence} Is that true or false?'&answer=label&tag='nlvr'"
    u = read_understanding([f"{DATA}/puzzlevqa", f"{DATA}/nlvr_dev/dev.jsonl?{statement}"])
    g = read_generation([f"{DATA}/coco_by", DATA / "puzzlevqa"])
    assert (len(u), len(g)) == (1000 + 989, 51 + 1000)
    assert all(Path(one.image_path).is_file() for one in [*u, *g])
    puzzles = [one for one in u if one.tag != "nlvr"]
    assert all(one.answer in "ABCDEFGH" and f" {one.answer}. " in one.question for one in puzzles)
    assert {one.answer for one in u if one.tag == "nlvr"} == {"true", "false"}
    assert len({one.tag for one in u}) == 21


def test_memory_does_not_grow_with_the_file(tmp_path):
    def peak(count: int) -> int:
        large = encoded() + bytes(200_000)
        members = [
            one
            for n in range(count)
            for one in ((f"{n:05}.png", large + str(n).encode()), (f"{n:05}.txt", b"x"))
        ]
        path = tar_of(tmp_path / f"{count}.tar", members)
        tracemalloc.start()
        assert sum(1 for _ in SampleReader(path, GenerationSample, tmp_path / "p")) == count
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    few, many = peak(10), peak(100)
    assert many < few + 500_000, f"{few:,} and {many:,} bytes for 2 and 20 MB"

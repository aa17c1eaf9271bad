"""Records on disk: they are read as they were appended and take next to no memory."""

from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pairuni.pairug.record_file import Lazily, RecordFile, picked
from pairuni.records import GenerationSample, Quadruple, UnderstandingSample

EXTRAS = {
    "source": "a.jsonl:3",
    "scene": [{"digit": 1}],
    "size": 0.1,
    "large": 2**70,
    "none": None,
    "κ": "λ\n",
}


def samples(count: int) -> list[UnderstandingSample | GenerationSample]:
    asked = [
        UnderstandingSample(id=f"u{n}", image_path="a.png", question="q?", answer="x" * (n + 1), **EXTRAS)
        for n in range(count)
    ]
    return [*asked, GenerationSample(id="g", image_path="b.png", prompt="eine Tür, 一")]


def kept(folder: Path, count: int) -> RecordFile[UnderstandingSample | GenerationSample]:
    records: RecordFile[UnderstandingSample | GenerationSample] = RecordFile(
        folder, UnderstandingSample, GenerationSample
    )
    records.extend(samples(count))
    return records


def test_what_is_read_is_what_was_kept(tmp_path):
    records, whole = kept(tmp_path / "new", 5), samples(5)
    assert len(records) == 6
    assert list(records) == whole
    assert [one.model_dump_json() for one in records] == [one.model_dump_json() for one in whole]
    assert (records[-1], records[1:4], records[::-2]) == (whole[-1], whole[1:4], whole[::-2])
    records.append(whole[0])
    assert records[6] == whole[0]
    for beyond in (7, -8):
        with pytest.raises(IndexError):
            records[beyond]
    assert list((tmp_path / "new").iterdir()) == [], "the file has no name, so that a kill leaves nothing"


def test_what_json_cannot_hold_is_refused(tmp_path):
    records = RecordFile(tmp_path, Quadruple)
    half = {
        "id": "a",
        "origin": "generation",
        "image_path": "a",
        "prompt": "p",
        "question": "q",
        "answer": "a",
    }
    with pytest.raises(ValueError, match="JSON cannot hold"):
        records.append(Quadruple(**half, weight=float("nan")))
    assert len(records) == 0


def test_some_of_the_records(tmp_path):
    records = kept(tmp_path, 5)
    some = picked(picked(records, [4, 2, 0]), [2, 0])
    assert [one.id for one in some] == ["u0", "u4"]
    assert len(Lazily(3, str)) == 3
    assert Lazily(3, str)[1:] == ["1", "2"]


def test_threads_read_what_was_not_written_out_yet(tmp_path):
    records, whole = kept(tmp_path, 300), samples(300)
    with ThreadPoolExecutor(8) as readers:
        assert list(readers.map(records.__getitem__, range(len(whole)))) == whole


def test_a_record_takes_a_few_bytes_of_memory(tmp_path):
    records = RecordFile(tmp_path, GenerationSample)
    sample = GenerationSample(id="g", image_path="b.png", prompt="a long prompt " * 20)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(10_000):
        records.append(sample)
    assert records[9_999] == sample
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (after - before) / 10_000 < 16

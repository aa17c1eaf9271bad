"""Pair files: round trips, every kind of bad line and bad image, atomic writing."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kill_events import run_child
from pairuni.pairug.dataset.store import iter_problems, read_pairs, write_pairs
from pairuni.records import Annotation, UGPair
from source_data import encoded, png, png_that_claims

SIDE = {"image_path": "a.png", "prompt": "a cat", "question": "what?", "answer": "A", "tag": "t"}
PAIR = {"similarity": 0.5, "generate_ann": SIDE, "understand_ann": {**SIDE, "image_path": "b.png"}}
SUFFIXES = pytest.mark.parametrize("suffix", ["jsonl", "parquet"])


def pair(**changes) -> UGPair:
    return UGPair.model_validate({**PAIR, **changes})


def write_lines(path: Path, *lines: object) -> Path:
    texts = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    path.write_bytes(b"\n".join(texts) + b"\n")
    return path


text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)
extras = st.dictionaries(
    text.map("x_{}".format) | st.sampled_from(["extra", "kind", "scene"]), json_values, max_size=3
)
names = st.from_regex(r"[a-zé ]{1,8}/?[0-9a-z]{1,4}\.png", fullmatch=True).filter(lambda n: n.strip() == n)
sides = st.builds(
    lambda extra, image, **fields: Annotation(**{**extra, **fields, "image_path": image}),
    extra=extras, image=names, prompt=text, question=text, answer=text, tag=st.just("") | text,
)  # fmt: skip
pairs_of_anything = st.builds(
    lambda extra, s, g, u: UGPair(**{**extra, "similarity": s, "generate_ann": g, "understand_ann": u}),
    extra=extras, s=st.floats(0, 1), g=sides, u=sides,
)  # fmt: skip


@SUFFIXES
@settings(max_examples=25, deadline=None)
@given(pairs=st.lists(pairs_of_anything, min_size=1, max_size=4))
def test_what_is_written_is_read_back_unknown_keys_included(tmp_path_factory, suffix, pairs):
    path = tmp_path_factory.mktemp("pairs") / f"pairs.{suffix}"
    write_pairs(path, pairs)
    again = read_pairs(path)
    assert [p.model_dump() for p in again] == [p.model_dump() for p in pairs]
    assert os.listdir(path.parent) == [path.name]


def test_parquet_has_plain_columns_and_is_read_without_ours(tmp_path):
    write_pairs(tmp_path / "pairs.parquet", [pair(note=[1]), pair(understand_ann=SIDE)])
    table = pq.read_table(tmp_path / "pairs.parquet")
    assert table.column_names == ["similarity", "kind", "generate_ann", "understand_ann", "extra"]
    assert table["kind"].to_pylist() == ["retrieved", "aligned"]
    assert table["generate_ann"].to_pylist()[0] == {**SIDE, "extra": None}
    assert table["extra"].to_pylist() == ['{"note": [1]}', None]


def test_parquet_of_others_may_lack_our_columns_and_bring_its_own(tmp_path):
    pq.write_table(pa.Table.from_pylist([{**PAIR, "source": "x"}]), tmp_path / "pairs.parquet")
    assert read_pairs(tmp_path / "pairs.parquet") == [pair(source="x")]


@pytest.mark.parametrize(
    ("line", "field", "reason"),
    [
        (json.dumps(PAIR).encode()[:60], "", "is not valid JSON"),
        (b'"pair"', "", "must be a JSON object, not str"),
        (b'{"similarity": NaN}', "", "NaN is not JSON"),
        ({**PAIR, "similarity": 1.2}, "similarity", "must be less than or equal to 1, not 1.2"),
        ({**PAIR, "similarity": "0.5"}, "similarity", "must be a number, not '0.5'"),
        ({**PAIR, "similarity": True}, "similarity", "must be a number, not True"),
        ({**PAIR, "generate_ann": "a"}, "generate_ann", "must be"),
        ({"similarity": 1, "generate_ann": SIDE}, "understand_ann", "is missing"),
        ({**PAIR, "generate_ann": {**SIDE, "prompt": ""}}, "generate_ann.prompt", "must not be empty"),
        ({**PAIR, "generate_ann": {**SIDE, "tag": "\ud800"}}, "generate_ann.tag", "must be valid Unicode"),
        ({**PAIR, "generate_ann": {**SIDE, "answer": 3}}, "generate_ann.answer", "must be a string, not 3"),
        (
            {**PAIR, "generate_ann": {**SIDE, "image_path": "/a.png"}},
            "generate_ann.image_path",
            "is absolute",
        ),
        ({**PAIR, "generate_ann": {**SIDE, "image_path": "C:\\a"}}, "generate_ann.image_path", "is absolute"),
        (
            {**PAIR, "understand_ann": {**SIDE, "image_path": "../a"}},
            "understand_ann.image_path",
            "lies outside",
        ),
        (
            {**PAIR, "understand_ann": {**SIDE, "image_path": "a\0"}},
            "understand_ann.image_path",
            "contains a NUL",
        ),
    ],
)
def test_a_bad_line_is_named_by_file_line_field_and_reason(tmp_path, line, field, reason):
    path = write_lines(tmp_path / "pairs.jsonl", PAIR, b"", line, b"{", b"{")
    with pytest.raises(ValueError) as caught:
        read_pairs(path)
    where = f"{path}, line 3, field {field}: " if field else f"{path}, line 3: "
    assert str(caught.value).startswith(where)
    assert reason in str(caught.value)
    assert str(caught.value).endswith("(and 2 more problems)")
    found = [problem for problem in iter_problems(path) if problem.line == 3]
    assert any(problem.field == field and reason in problem.reason for problem in found)


def test_every_fault_of_a_line_is_listed(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(png())
    path = write_lines(
        tmp_path / "pairs.jsonl", PAIR, {"similarity": -1, "generate_ann": {**SIDE, "prompt": 1}}
    )
    fields = [problem.field for problem in iter_problems(path)]
    assert fields == ["similarity", "generate_ann.prompt", "understand_ann"]


def test_marks_of_images_and_special_tokens_in_what_a_run_uses_are_found(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(png())
    drawn, asked = {**SIDE, "prompt": "a <|User|> cat"}, {**SIDE, "question": "Is <image> a cat?"}
    unused = {"similarity": 0.9, "generate_ann": asked, "understand_ann": drawn}
    used = {"similarity": 0.9, "generate_ann": drawn, "understand_ann": asked}
    path = write_lines(tmp_path / "pairs.jsonl", unused, used)
    found = [str(problem) for problem in iter_problems(path) if "image_path" not in problem.field]
    where = f"{path}, line 2, field"
    assert found == [
        f"{where} generate_ann.prompt: contains <|User|>, which resembles a special token of a model; remove it",
        f"{where} understand_ann.question: contains <image>, which stands for an image in other formats; remove it",
    ]
    assert len(read_pairs(path)) == 2


def test_a_byte_order_mark_and_other_line_ends_are_read(tmp_path):
    line = json.dumps(PAIR).encode()
    (tmp_path / "pairs.jsonl").write_bytes(b"\xef\xbb\xbf" + line + b"\r\n" + line)
    assert read_pairs(tmp_path / "pairs.jsonl") == [pair(), pair()]


def test_every_kind_of_bad_image_is_found(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    contents = {
        "good.png": png(),
        "cut.png": encoded(side=64)[:900],
        "text.png": b"not an image",
        "empty.png": b"",
        "large.png": png_that_claims(20_000, 5_000),
        "no-data.png": png_that_claims(8, 8),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (tmp_path / "outside.png").write_bytes(png())
    (folder / "link.png").symlink_to(tmp_path / "outside.png")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "folder.png").mkdir()
    reasons = {
        "cut.png": "cannot be decoded",
        "text.png": "is not a supported image",
        "empty.png": "is not a supported image",
        "large.png": "is too large (20000x5000 pixels",
        "no-data.png": "cannot be decoded",
        "link.png": "lies outside the file's folder",
        "loop.png": "cannot be",
        "folder.png": "cannot be read",
        "gone.png": "is missing",
        "n" * 300: "cannot be",
    }
    good = {**SIDE, "image_path": "good.png"}
    lines = [
        {**PAIR, "understand_ann": good, "generate_ann": {**good, "image_path": name}} for name in reasons
    ]
    path = write_lines(folder / "pairs.jsonl", *lines, {**PAIR, "understand_ann": good, "generate_ann": good})
    problems = list(iter_problems(path))
    assert [problem.line for problem in problems] == list(range(1, len(reasons) + 1))
    for (name, reason), problem in zip(reasons.items(), problems, strict=True):
        assert problem.field == "generate_ann.image_path"
        assert repr(name) in problem.reason
        assert reason in problem.reason


@SUFFIXES
def test_an_empty_or_missing_file_is_a_sentence(tmp_path, suffix):
    path = tmp_path / f"pairs.{suffix}"
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_pairs(path)
    if suffix == "parquet":
        pq.write_table(pa.table({"similarity": pa.array([], pa.float64())}), path)
    else:
        path.write_bytes(b"\n")
    with pytest.raises(ValueError, match="contains no pairs"):
        read_pairs(path)
    assert [str(problem) for problem in iter_problems(path)] == [f"{path}: contains no pairs"]


def test_bad_parquet_is_a_sentence(tmp_path):
    path = tmp_path / "pairs.parquet"
    write_pairs(path, [pair()] * 50)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match="is not a valid parquet file"):
        read_pairs(path)
    pq.write_table(
        pa.Table.from_pylist(
            [{**PAIR, "extra": "{}"}, {**PAIR, "generate_ann": None}, {**PAIR, "extra": "{"}]
        ),
        path,
    )
    fields = [(problem.line, problem.field) for problem in iter_problems(path) if problem.line > 1]
    assert fields[0] == (2, "generate_ann")
    assert (3, "extra") in fields


def test_other_suffixes_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"ends in \.jsonl or \.parquet"):
        write_pairs(tmp_path / "pairs.csv", [pair()])


def test_images_are_not_embedded_in_json_lines(tmp_path):
    with pytest.raises(ValueError, match=r"pairs\.jsonl: only \.parquet files can embed images"):
        write_pairs(tmp_path / "pairs.jsonl", [pair()], embed=tmp_path)


@SUFFIXES
@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (UGPair.model_construct(**{**pair().__dict__, "similarity": 1.7}), "similarity: must be less"),
        (pair(generate_ann={**SIDE, "image_path": "../a.png"}), "generate_ann.image_path: '../a.png' lies"),
        (pair(extra_key=float("nan")), "JSON cannot hold"),
        (pair(extra_key=object()), "JSON cannot hold"),
        (None, "there are no pairs"),
    ],
)
def test_writing_is_strict_and_leaves_the_earlier_file(tmp_path, suffix, bad, reason):
    path = tmp_path / f"pairs.{suffix}"
    write_pairs(path, [pair()])
    with pytest.raises(ValueError) as caught:
        write_pairs(path, [] if bad is None else [pair(), bad])
    assert reason in str(caught.value)
    assert read_pairs(path) == [pair()]
    assert os.listdir(tmp_path) == [path.name]


@SUFFIXES
def test_a_full_disk_leaves_the_earlier_file_and_nothing_else(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"pairs.{suffix}"
    write_pairs(path, [pair()])

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_pairs(path, [pair()] * 3)
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(path)
    monkeypatch.undo()
    assert read_pairs(path) == [pair()]
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("how", ["killed", "out of room"])
def test_a_process_that_dies_while_writing_leaves_the_earlier_file(tmp_path, how):
    path = tmp_path / "pairs.jsonl"
    write_pairs(path, [pair()])

    def many() -> Iterator[UGPair]:
        for _ in range(2_000):
            yield pair()
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)

    def write() -> None:
        if how == "out of room":
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        write_pairs(path, many())

    if how == "killed":
        assert run_child(write) is None
    else:
        with pytest.raises(AssertionError, match=r"could not be written \(File too large\)"):
            run_child(write)
        assert os.listdir(tmp_path) == [path.name]
    assert read_pairs(path) == [pair()]
    write_pairs(path, [pair(), pair()])
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("extra", ["[" * 200_000, "[1]"])
def test_further_keys_in_parquet_that_are_no_object_are_a_problem_of_their_row(tmp_path, extra):
    pq.write_table(pa.Table.from_pylist([{**PAIR, "extra": extra}]), tmp_path / "pairs.parquet")
    with pytest.raises(ValueError, match=r"line 1, field extra: must be a JSON object in a string"):
        read_pairs(tmp_path / "pairs.parquet")

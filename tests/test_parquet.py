"""Parquet files: rows in batches, or one sentence that names the file."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairuni.io.parquet import leaf_paths, read_batches


def test_rows_in_batches_and_columns_by_path(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": [1, 2, 3], "b": [{"c": "x", "d": 1}] * 3}), path)
    assert leaf_paths(path) == ["a", "b.c", "b.d"]
    assert list(read_batches(path, rows=2, columns=["a", "b.c"])) == [
        [{"a": 1, "b": {"c": "x"}}, {"a": 2, "b": {"c": "x"}}],
        [{"a": 3, "b": {"c": "x"}}],
    ]


def late(path: Path) -> None:
    pq.write_table(pa.table({"day": pa.array([3_000_000], pa.date32())}), path)


def not_utf8(path: Path) -> None:
    bad = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xc3\x28"))
    pq.write_table(pa.table({"text": bad}), path)


def cut(path: Path) -> None:
    pq.write_table(pa.table({"a": list(range(1000))}), path)
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize("make", [late, not_utf8, cut, Path.mkdir])
def test_what_cannot_be_read_is_one_sentence_with_the_file(tmp_path: Path, make) -> None:
    path = tmp_path / "a.parquet"
    make(path)
    with pytest.raises(ValueError, match=r"a\.parquet is not a valid parquet file \(.+\)$"):
        list(read_batches(path))

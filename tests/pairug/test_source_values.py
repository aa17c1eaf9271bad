"""Cell values of tables and JSON as text: what is missing is missing in every format."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairuni.pairug.jsonl import dump
from pairuni.pairug.sources.values import Unreadable, as_json, as_text
from source_data import generated, lines, png, tar_of, understood

BASE = {"image": "a.png", "question": "How many?"}


def table(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    count = len(next(iter(columns.values())))
    base = {name: [value] * count for name, value in BASE.items()}
    pq.write_table(pa.table({**base, **columns}), path)
    return path


WRITTEN = {
    "integer as float": (pa.array([3.0]), "3"),
    "negative zero": (pa.array([-0.0]), "0"),
    "float": (pa.array([2.5]), "2.5"),
    "float32": (pa.array([0.1], pa.float32()), "0.1"),
    "float16": (pa.array([np.float16(0.1)], pa.float16()), "0.1"),
    "large float": (pa.array([1e300]), "1e+300"),
    "large integer": (pa.array([2**63 - 1]), "9223372036854775807"),
    "decimal": (pa.array([Decimal("12.50")]), "12.50"),
    "integer as decimal": (pa.array([3], pa.decimal128(5, 1)), "3"),
    "bool": (pa.array([True]), "true"),
    "date": (pa.array([date(2024, 1, 2)]), "2024-01-02"),
    "time": (pa.array([time(9, 30)]), "09:30:00"),
    "timestamp": (pa.array([datetime(2024, 1, 2, 3, 4, 5)]), "2024-01-02 03:04:05"),
    "day as timestamp": (pa.array([datetime(2024, 1, 2)], pa.timestamp("ns")), "2024-01-02"),
    "timestamp with zone": (pa.array([datetime(2024, 1, 2, tzinfo=UTC)]), "2024-01-02 00:00:00+00:00"),
    "duration": (pa.array([timedelta(days=1, hours=2)]), "1 day, 2:00:00"),
    "duration of nanoseconds": (pa.array([timedelta(hours=2)], pa.duration("ns")), "2:00:00"),
    "bytes of text": (pa.array([b" three "]), "three"),
    "dictionary": (pa.array(["three"]).dictionary_encode(), "three"),
}


@pytest.mark.parametrize(("column", "text"), WRITTEN.values(), ids=WRITTEN)
def test_cells_of_tables_are_written_as_a_person_would(tmp_path, column, text):
    sample = understood(table(tmp_path / "u.parquet", answer=column, further=column)).sample
    assert sample.answer == text
    assert dump(sample.further), "a further column is kept as a JSON value"


@pytest.mark.parametrize(
    ("answers", "kept", "line"),
    [
        ([math.nan, 3.0, 2.5], ["3", "2.5"], 1),
        (pa.array([None, 3]), ["3"], 1),
        (pa.array([1, 10**8, 2], pa.int32()).cast(pa.date32()), ["1970-01-02", "1970-01-03"], 2),
    ],
    ids=["integers that pandas writes as floats", "null", "a date that Python cannot hold"],
)
def test_a_cell_without_a_value_costs_its_own_row(tmp_path, answers, kept, line):
    found = understood(table(tmp_path / "u.parquet", answer=answers))
    assert (found.answers, len(found.problems)) == (kept, 1)
    assert f"line {line}, field answer: " in found.problems[0]
    assert line == 2 or "the row has no value there" in found.problems[0]


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "null"])
def test_no_number_is_no_answer_in_any_format(tmp_path, value):
    inside = f'{{"question": "How many?", "answer": {value}}}'
    row = inside.replace("{", '{"image": "a.png", ')
    (tmp_path / "u.json").write_text(f"[{row}]")
    (tmp_path / "u.jsonl").write_text(f"{row}\n")
    tar_of(tmp_path / "u.tar", [("a.png", png()), ("a.json", inside.encode())])
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.png").write_bytes(png())
    (tmp_path / "folder" / "a.json").write_text(inside)
    for name in ("u.json", "u.jsonl", "u.tar", "folder"):
        assert "is missing" not in understood(tmp_path / name, tmp_path / "p").problem
    number = {"NaN": math.nan, "null": None}.get(value, math.inf)
    problem = understood(table(tmp_path / "u.parquet", answer=pa.array([number], pa.float64()))).problem
    assert ("no value" if value in ("NaN", "null") else "is infinite") in problem


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (pa.array([b"\xff\xfe\x00"]), "holds 3 bytes that are not UTF-8 text"),
        (pa.array([10**8], pa.int32()).cast(pa.date32()), "is a value of type date32[day]"),
        (pa.array([10**12]).cast(pa.timestamp("s")), "is a value of type timestamp[ms]"),
        (pa.array([["a", "b"]]), "must be a string, not ['a', 'b']"),
        (pa.array([{"x": 1}]), "must be a string, not {'x': 1}"),
    ],
    ids=["bytes", "far date", "far timestamp", "list", "struct"],
)
def test_values_that_are_not_text_are_named_by_type(tmp_path, column, reason):
    assert (
        f"line 1, field answer: {reason}" in understood(table(tmp_path / "u.parquet", answer=column)).problem
    )


def test_a_list_of_one_is_its_value(tmp_path):
    assert understood(table(tmp_path / "u.parquet", answer=[["14"]])).sample.answer == "14"


def test_further_columns_are_kept_or_counted(tmp_path):
    path = table(
        tmp_path / "u.parquet",
        answer=["three"],
        day=[date(2024, 1, 2)],
        nested=[{"when": datetime(2024, 1, 2, 3), "worth": [Decimal("2.50"), None]}],
        score=[math.inf],
        empty=[math.nan],
        mask=[b"\x89\xff"],
    )
    found = understood(path)
    kept = found.sample.model_dump()
    assert kept["day"] == "2024-01-02"
    assert kept["nested"] == {"when": "2024-01-02 03:00:00", "worth": ["2.50", None]}
    assert (kept["score"], kept["empty"]) == ("Infinity", None)
    assert "mask" not in kept
    assert found.not_kept == {"column mask, which JSON cannot hold": 1}
    assert json.loads(dump(kept)) == kept
    found = generated(
        lines(tmp_path / "x.jsonl", {"image": "a.png", "caption": "x", "note": "\ud83d", "kept": 1})
    )
    assert found.sample.kept == 1
    assert "note" not in found.sample.model_dump()


def test_hub_rows_of_numbers_and_dates(tmp_path):
    pytest.importorskip("datasets")
    table(tmp_path / "set" / "train.parquet", answer=[3.0, math.nan], day=[date(2024, 1, 2)] * 2)
    found = understood(f"hub:{tmp_path / 'set'}", tmp_path / "p")
    assert [(one.answer, one.day) for one in found.samples] == [("3", "2024-01-02")]
    assert "the row has no value there" in found.problems[0]
    dates = pa.array([10**8], pa.int32()).cast(pa.date32())
    table(tmp_path / "late" / "train.parquet", answer=["3"], day=dates)
    problem = understood(f"hub:{tmp_path / 'late'}", tmp_path / "p").problem
    assert "cannot be read by datasets (date value out of range)" in problem


NUMPY = [np.int64(3), np.float64(3.0), np.float32(3.0), np.array(3), np.str_("3"), np.array("3")]


@pytest.mark.parametrize("value", NUMPY, ids=repr)
def test_numpy_values_are_read_as_pythons(value):
    assert as_text(value) == "3"


@pytest.mark.parametrize(
    "value", [np.float64("nan"), np.datetime64("NaT"), np.timedelta64("NaT"), Decimal("NaN"), None], ids=repr
)
def test_absent_values_have_no_text(value):
    assert as_text(value) is None
    assert as_json(value) is None


def test_values_without_text():
    for value in (math.inf, Decimal("-Infinity"), 10**5000, b"\xff", object(), 1j):
        with pytest.raises(Unreadable):
            as_text(value)
    assert as_text(np.datetime64("2024-01-02T03:04:05.000000006")) == "2024-01-02 03:04:05"
    assert as_text(np.bool_(True)) == "true"
    assert as_json([np.array([1, 2]), (b"x", {1: date(2024, 1, 2)})]) == [[1, 2], ["x", {"1": "2024-01-02"}]]
    deep: list[Any] = []
    for _ in range(100):
        deep = [deep]
    with pytest.raises(Unreadable, match="nested more than"):
        as_json(deep)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_keeps_its_value_as_text(value):
    assert float(as_text(value)) == value
    assert not as_text(value).endswith(".0")

"""A result as JSON and as a table."""

from pathlib import Path

import pytest

from pairuni.evaluation.result import Result, read_result

RESULT = Result(
    benchmark="POPE",
    protocol="official",
    score=84.11,
    unit="% F1",
    interval=(83.0, 85.25),
    parts={"random F1": 86.0, "random accuracy": 87.123},
    counts={"random F1": 3000},
    settings={"prompts": "VLMEvalKit"},
)


def test_json_and_back(tmp_path: Path) -> None:
    RESULT.write(tmp_path / "pope.json")
    assert read_result(tmp_path / "pope.json") == RESULT
    (tmp_path / "other.json").write_text('{"benchmark": "POPE"}')
    with pytest.raises(ValueError, match=r"other.json is not a benchmark result"):
        read_result(tmp_path / "other.json")


def test_the_table_names_protocol_and_interval() -> None:
    lines = RESULT.table().splitlines()
    assert lines[0] == "POPE (official): 84.11 [83.00, 85.25] % F1"
    assert [line.split() for line in lines[1:]] == [
        ["random", "F1", "86.00", "(3000", "items)"],
        ["random", "accuracy", "87.12"],
    ]

"""A result as JSON and as a table."""

import json
from dataclasses import replace
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
    assert lines[1] == "  prompts VLMEvalKit"
    assert [line.split() for line in lines[2:]] == [
        ["random", "F1", "86.00", "(3000", "items)"],
        ["random", "accuracy", "87.12"],
    ]
    bare = replace(RESULT, interval=None, counts={"no choice found": 1200, "random F1": 3000})
    lines = bare.table().splitlines()
    assert lines[0] == "POPE (official): 84.11 % F1"
    assert lines[-1] == "  counts: no choice found 1,200"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"score": "5"}, "score: Input should be a valid number"),
        ({"score": float("nan")}, "score: Input should be a finite number"),
        ({"interval": [1]}, "interval.1: Field required"),
        ({"settings": None}, "settings: Input should be an object"),
        ({"more": 1}, "more: Unexpected keyword argument"),
    ],
)
def test_what_is_no_result_is_named(tmp_path: Path, changed: dict[str, object], reason: str) -> None:
    RESULT.write(tmp_path / "pope.json")
    row = json.loads((tmp_path / "pope.json").read_text())
    (tmp_path / "pope.json").write_text(json.dumps({**row, **changed}))
    with pytest.raises(ValueError, match=r"pope\.json is not a benchmark result") as caught:
        read_result(tmp_path / "pope.json")
    assert reason in str(caught.value)

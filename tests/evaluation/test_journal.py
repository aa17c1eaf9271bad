import json
import os
from pathlib import Path

import pytest

from pairuni.evaluation.journal import Journal, read_journal
from pairuni.evaluation.model import Model
from pairuni.evaluation.run_folder import all_records, check_settings


def test_what_a_kill_left_of_a_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "records-0.jsonl"
    with Journal(path) as journal:
        journal.add({"a": 1, "ü": {"reply": "x\ny"}})
    with path.open("ab") as file:
        file.write(b'{"key": "c", "val')
    assert read_journal(path) == {"a": 1, "ü": {"reply": "x\ny"}}
    with Journal(path) as journal:
        assert "c" not in journal
        assert journal["ü"] == {"reply": "x\ny"}
        journal.add({"c": 3})
    assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == ["a", "ü", "c"]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "records-0.jsonl"
    path.write_text('{"key": "a", "value": 1}\nnonsense\n{"key": "b", "value": 1}\n')
    with pytest.raises(ValueError, match=r"records-0\.jsonl, line 2: not a record"), Journal(path):
        pass


def test_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "records-0.jsonl"
    with Journal(path), pytest.raises(ValueError, match="another process is using this file"), Journal(path):
        pass
    with Journal(path):
        pass


def test_a_late_thread_writes_into_no_other_file(tmp_path: Path) -> None:
    with Journal(tmp_path / "a.jsonl") as journal:
        pass
    other = os.open(tmp_path / "b", os.O_RDWR | os.O_CREAT)
    with pytest.raises(OSError, match=r"[Bb]ad file"):
        journal.add({"late": 1})
    os.close(other)
    assert (tmp_path / "b").read_bytes() == b""


def test_a_folder_keeps_to_one_run(tmp_path: Path) -> None:
    check_settings(tmp_path, {"model": "a", "limit": None})
    check_settings(tmp_path, {"model": "b", "limit": None})
    with Journal(tmp_path / "records-3.jsonl") as journal:
        journal.add({"x": 1})
    with pytest.raises(
        ValueError, match=r"contains another run \(model was 'b', is 'c'; limit was None, is 5\)"
    ):
        check_settings(tmp_path, {"model": "c", "limit": 5})
    check_settings(tmp_path, {"model": "b", "limit": None})
    assert all_records(tmp_path) == {"x": 1}


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"contains other files, such as metrics\.jsonl; give a new --out"):
        check_settings(tmp_path, {"model": "a"})
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_other_weights_are_another_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(bytes(10_000))
    before = Model(name=str(tmp_path), device="cpu").described()
    assert before == Model(name=str(tmp_path), device="cpu").described()
    weights.write_bytes(bytes(5_000) + b"\1" + bytes(4_999))
    assert Model(name=str(tmp_path), device="cpu").described()["weights"] != before["weights"]

"""Logs that are read while they grow."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pairuni.runs.following import FollowedLog
from pairuni.runs.metrics import MetricsLog, metrics_row


def test_lines_are_read_once_as_they_are_completed(tmp_path: Path) -> None:
    made: list[str] = []

    def make(where: str, row: dict[str, Any]) -> int:
        made.append(where)
        return int(row["step"])

    path = tmp_path / "metrics.jsonl"
    log = FollowedLog(path, make)
    assert not log.update()
    assert log.rows == []
    path.write_text('{"step": 1}\n\n{"step": 2}\n{"st')
    assert log.update()
    assert log.rows == [1, 2]
    assert not log.update()
    with path.open("a") as file:
        file.write('ep": 3}\n')
    assert log.update()
    assert log.rows == [1, 2, 3]
    assert made == [f"{path}, line {number}" for number in (1, 3, 4)]


def test_a_rewound_log_is_read_again_from_the_start(tmp_path: Path) -> None:
    written = MetricsLog(tmp_path / "metrics.jsonl")
    log = FollowedLog(written.path, metrics_row)
    for step in (1, 2, 3):
        written.append({"step": step, "reward": step / 10})
    log.update()
    written.rewind(1)
    written.append({"step": 2, "reward": 0.9})
    assert log.update()
    assert [(row.step, row.value("reward")) for row in log.rows] == [(1, 0.1), (2, 0.9)]
    written.path.unlink()
    assert log.update()
    assert log.rows == []


def test_a_damaged_line_is_named_until_it_is_repaired(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = FollowedLog(path, metrics_row)
    path.write_text('{"step": 1}\n')
    log.update()
    path.write_text('{"step": 1}\n{"step": -2}\n{"step": 3}\n')
    for _ in range(2):
        with pytest.raises(ValueError, match="line 2: step"):
            log.update()
        assert [row.step for row in log.rows] == [1]
    path.write_text("".join(json.dumps({"step": step}) + "\n" for step in (1, 20, 3)))
    log.update()
    assert [row.step for row in log.rows] == [1, 20, 3]


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(ValueError, match="not a regular file"):
        FollowedLog(tmp_path / "metrics.jsonl", metrics_row).update()

import errno
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from pairuni.runs.metrics import MetricsLog


def test_lines_are_appended_and_read_back(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "run" / "metrics.jsonl")
    assert log.rows() == []
    log.append({"step": 1, "reward": 0.1 + 0.2, "note": "ä"})
    log.append({"step": 2, "reward": float("nan")})
    assert log.rows() == [{"step": 1, "reward": 0.1 + 0.2, "note": "ä"}, {"step": 2, "reward": None}]


def test_rewind_drops_later_steps_and_a_half_line(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step in (1, 2, 3):
        log.append({"step": step})
    with log.path.open("a") as file:
        file.write('{"step": 4, "rew')
    assert [row["step"] for row in log.rows()] == [1, 2, 3]
    log.rewind(2)
    assert log.path.read_text() == '{"step": 1}\n{"step": 2}\n'
    log.append({"step": 3})
    assert [json.loads(line)["step"] for line in log.path.read_text().splitlines()] == [1, 2, 3]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('{"st', "not valid JSON"),
        ("[1]", "not a JSON object"),
        ("{}", "step"),
        ('{"step": "1"}', "step"),
        ('{"step": true}', "step"),
        ('{"step": 1e400}', "step"),
        ('{"step": ' + "1" * 5000 + "}", "not readable JSON"),
        ("[" * 100_000, "not readable JSON"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, line: str, fault: str) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.path.write_text('{"step": 1}\n' + line + '\n{"step": 3}\n')
    with pytest.raises(ValueError, match=rf"metrics\.jsonl, line 2: .*{fault}"):
        log.rewind(1)


@pytest.mark.parametrize("taken", [0, 9])
def test_a_full_disk_is_a_sentence_with_the_file_and_leaves_no_half_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append({"step": 1})
    before = log.path.read_bytes()
    real = Path.open

    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            if not taken:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data[:taken])

    monkeypatch.setattr(Path, "open", lambda path, *args, **kwargs: Full(path, "a+b"))
    with pytest.raises(OSError, match="No space left on device") as caught:
        log.append({"step": 2, "reward": 0.5})
    assert caught.value.filename == str(log.path)
    monkeypatch.setattr(Path, "open", real)
    assert log.path.read_bytes() == before

import errno
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pairuni.training.tracking import MetricsLog, Progress, Stages


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


def test_a_bad_line_in_the_middle_is_named(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.path.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2: not JSON"):
        log.rows()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[1]", "not a JSON object"),
        ("{}", "step must be a whole number"),
        ('{"step": "1"}', "step must be a whole number"),
        ('{"step": true}', "step must be a whole number"),
        ('{"step": 1e400}', "step must be a whole number"),
        ('{"step": ' + "1" * 5000 + "}", "not JSON"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_lines_that_cannot_be_rewound(tmp_path: Path, line: str, said: str) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.path.write_text('{"step": 1}\n' + line + "\n")
    with pytest.raises(ValueError, match=rf"metrics\.jsonl, line 2: {said}.*correct or remove the line"):
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


def test_progress_off_a_terminal_says_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("pairuni.training.tracking.time.monotonic", lambda: now[0])
    text = io.StringIO()
    with Progress("train", total=600, start=100, every_seconds=10, console=Console(file=text)) as progress:
        for _ in range(12):
            now[0] += 2.0
            progress.advance(10, status="reward [0.5]")
    lines = text.getvalue().splitlines()
    assert lines == [
        "train: 150/600 steps, 5.00 steps/s, 1:30 left reward [0.5]",
        "train: 200/600 steps, 5.00 steps/s, 1:20 left reward [0.5]",
    ]


def test_progress_on_a_terminal_shows_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=120)
    with Progress("train", total=3, console=console) as progress:
        for _ in range(3):
            progress.advance(status="reward 0.5")
    assert "3/3" in text.getvalue()
    assert "reward 0.5" in text.getvalue()
    assert progress.done == 3


def test_stages_in_turn(capsys: pytest.CaptureFixture[str]) -> None:
    with Stages("pairs: ") as stages:
        for stage in ("completion", "features"):
            for _ in range(2):
                stages.advance(stage, 5, 10)
    said = [line.split(",")[0] for line in capsys.readouterr().err.splitlines()]
    assert said == ["pairs: completion: 10/10 samples", "pairs: features: 10/10 samples"]

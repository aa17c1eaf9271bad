import io
import re

import pytest
from rich.console import Console

from pairuni.console.progress import Progress, Stages


def test_progress_off_a_terminal_says_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("pairuni.console.progress.time.monotonic", lambda: now[0])
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


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_a_narrow_terminal_cuts_off_the_end_alone(width: int) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=width, color_system=None)
    status = "reward understanding 0.750 generation 0.900"
    with Progress("training", total=100, start=28, console=console) as progress:
        progress.advance(status=status)
    last = [
        line for line in re.split(r"[\r\n]|\x1b\[[0-9;?]*[A-Za-z]", out.getvalue()) if "training" in line
    ][-1]
    assert len(last.rstrip()) <= width
    assert re.match(r"training \S+ +29/100 0:00:0\d ", last), last
    assert (status in last) == (width > 110), last
    assert ("…" in last) == (width < 110), last


def test_stages_in_turn(capsys: pytest.CaptureFixture[str]) -> None:
    with Stages("pairs: ") as stages:
        for stage in ("completion", "features"):
            for _ in range(2):
                stages.advance(stage, 5, 10)
    said = [line.split(",")[0] for line in capsys.readouterr().err.splitlines()]
    assert said == ["pairs: completion: 10/10 samples", "pairs: features: 10/10 samples"]

"""What the processes of a command say: one speaks to the user, each has a log."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer

from pairuni.cli.ranks import said_once, several_ranks
from pairuni.distributed.world import OtherRankFailed
from ranks import run_ranks, values_of
from user_folder import Brightness, UserFolder
from warm_python import WarmPython

TIMES = ("time", "second")
SCENES = ("--evaluation.every=2", "--evaluation.task=digits", "--evaluation.items=30")
logger = logging.getLogger("pairuni")


def logs_lines(folder: Path, error: BaseException | None = None) -> Any:
    shown: list[str] = []

    class Shown(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            shown.append(record.getMessage())

    logger.handlers = [Shown()]
    try:
        with several_ranks(30.0) as (world, log):
            assert log is not None
            logger.info("early line of %d", world.rank)
            log.open(folder)
            logger.warning("late line of %d", world.rank)
            world.barrier()
            if error is not None and world.rank == 1:
                raise error
            world.barrier()
    except typer.Exit as stop:
        return shown, f"exit {stop.exit_code}"
    except Exception as raised:
        return shown, f"{type(raised).__name__}: {raised}"
    logger.info("after")
    return shown, None


def test_rank_0_shows_its_log_and_each_has_a_file(tmp_path: Path) -> None:
    (first, _), (second, _) = values_of(run_ranks(2, tmp_path / "o", logs_lines, tmp_path, timeout=None))
    assert first == ["early line of 0", "late line of 0", "after"]
    assert second == ["after"]
    for rank in range(2):
        early, late = (tmp_path / f"rank-{rank}.log").read_text().splitlines()
        assert early.endswith(f"INFO early line of {rank}")
        assert late.endswith(f"WARNING late line of {rank}")


@pytest.mark.parametrize("error", [ValueError("a bad value"), TypeError("a bug")], ids=["mistake", "bug"])
def test_rank_0_tells_the_error_of_another_whose_log_has_the_traceback(
    tmp_path: Path, error: Exception
) -> None:
    outcomes = run_ranks(2, tmp_path / "outcomes", logs_lines, tmp_path, error, timeout=None)
    (_, first), (_, second) = values_of(outcomes)
    assert first == f"{OtherRankFailed.__name__}: rank 1: {error}"
    assert second == "exit 1"
    text = (tmp_path / "rank-1.log").read_text()
    assert "Traceback" in text
    assert f"{type(error).__name__}: {error}" in text


def test_a_mistake_before_the_ranks_are_connected_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        with said_once():
            raise ValueError("a bad setting")

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(typer.Exit):
        fail()
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(ValueError, match="a bad setting"):
        fail()


class Deadly(Brightness):
    """Kills its process in its second call, once per folder."""

    name = "deadly"
    calls = 0

    def __call__(self, records: Any, samples: Any) -> list[float]:
        self.calls += 1
        marker = Path(os.environ["DEADLY"])
        if self.calls == 2 and os.environ["RANK"] == "1" and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(records, samples)


def torchrun(python: str, user: UserFolder, *words: str, processes: int = 2, **environment: str) -> Any:
    """The finished `pairuni train` of two processes, or of one."""
    here = Path(__file__)
    paths = [str(here.parents[2] / "src"), str(here.parents[1]), str(here.parent)]
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--max-restarts", "1"]
    return subprocess.run(
        [
            *(python, *(launcher if processes > 1 else []), "-m", "pairuni", *user.train()),
            *("--pairgrpo.pairs-per-batch", "2", "--pairgrpo.steps", "4", "--pairgrpo.beta", "0.1", *words),
        ],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=280,
    )


def metrics(run: Path) -> list[Mapping[str, float]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: row[key] for key in row if not any(word in key for word in TIMES)} for row in rows]


def test_torchrun_trains_as_one_process_does(tmp_path: Path, warm_python: WarmPython) -> None:
    alone, several = UserFolder(tmp_path / "alone"), UserFolder(tmp_path / "several")
    for user, processes in ((alone, 1), (several, 2)):
        done = torchrun(
            warm_python.python, user, "--data.pairs", str(alone.pairs), *SCENES, processes=processes
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("trained model:") == 1
        assert done.stderr.count("training: 4/4 steps") == 1
    one, two = metrics(alone.root / "run"), metrics(several.root / "run")
    assert len(one) == len(two)
    for row, other in zip(one, two, strict=True):
        assert row.keys() == other.keys()
        for name, value in row.items():
            # the difference of float32 log-probs is rounding itself
            tolerance = 1e-4 if "logp_difference" in name else 1e-5
            assert value == pytest.approx(other[name], rel=1e-5, abs=tolerance), name
    logs = sorted(path.name for path in (several.root / "run" / "logs").iterdir())
    assert logs == ["rank-0.log", "rank-1.log"]
    assert not (alone.root / "run" / "logs").exists()


@pytest.mark.slow
def test_torchrun_restarts_a_run_whose_rank_was_killed(tmp_path: Path) -> None:
    user, full = UserFolder(tmp_path / "user"), UserFolder(tmp_path / "full")
    words = ("--reward.generation", "test_rank_output:Deadly", "--data.pairs", str(full.pairs))
    marker = tmp_path / "killed"
    done = torchrun(sys.executable, user, *words, DEADLY=str(marker))
    assert marker.exists()
    assert done.returncode == 0, done.stderr
    assert "rank 1 is gone" in done.stderr
    whole = torchrun(sys.executable, full, *words, DEADLY=str(marker))
    assert whole.returncode == 0, whole.stderr
    assert metrics(user.root / "run") == metrics(full.root / "run")
    name = Path("run") / "final" / "model.safetensors"
    assert (user.root / name).read_bytes() == (full.root / name).read_bytes()


@pytest.mark.slow
def test_torchrun_shows_an_error_once(tmp_path: Path) -> None:
    user = UserFolder(tmp_path / "user")
    for words, said in (
        (("--pairgrpo.pairs-per-batch", "1"), "error: 2 processes cannot share 1 pair per step"),
        (("--pairgrpo.pairs-per-bath", "1"), "error: "),
    ):
        done = torchrun(sys.executable, user, *words)
        assert done.returncode == 1
        lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert len(lines) == 2, done.stderr  # each of two attempts
        assert lines[0].startswith(said)

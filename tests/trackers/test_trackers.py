"""What trackers receive: each step once, also over a kill and a resume, and no failure of theirs ends a run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image
from tracked_runs import SAMPLED, TIMES, logged, settings, train

from commands import fails
from pairuni.config import RunSettings, load_settings
from pairuni.runs.folder import RunFolder
from pairuni.runs.metrics import MetricsLog
from pairuni.trackers.services import run_id
from pairuni.trackers.tracker import Picture
from pairuni.trackers.trackers import Trackers
from user_folder import UserFolder


class Server:
    """A service that keeps what it gets, as one on another machine does."""

    name = "server"

    def __init__(self, fails_at: int | None = None) -> None:
        self.values: dict[int, dict[str, float]] = {}
        self.pictures: dict[int, Sequence[Picture]] = {}
        self.fails_at, self.closed = fails_at, 0

    def begin(self) -> int:
        return max(self.values, default=-1)

    def log(self, metrics: Mapping[str, float], pictures: Sequence[Picture], step: int) -> None:
        if step == self.fails_at:
            raise OSError("the server is gone\nand more")
        assert not set(metrics) & set(self.values.get(step, {})), "a value came twice"
        self.values.setdefault(step, {}).update(metrics)
        if pictures:
            assert step not in self.pictures
            self.pictures[step] = pictures

    def close(self) -> None:
        self.closed += 1


class Killed(BaseException):
    """Stands for kill -9: nothing is saved after it."""


def killed() -> None:
    raise Killed


def without_times(values: Mapping[int, Mapping[str, float]]) -> dict[int, dict[str, float]]:
    return {
        step: {name: value for name, value in row.items() if name not in TIMES}
        for step, row in values.items()
    }


def test_a_tracker_gets_the_lines_of_metrics(tmp_path: Path) -> None:
    out, server = tmp_path / "run", Server()
    train(out, settings(), trackers=Trackers(RunFolder(out), [server]))
    assert server.values == logged(out)
    assert list(server.values) == [0, 1, 2, 3, 4, 5, 6]
    assert server.values[0] == {"eval/understanding": 0.0}
    assert tuple(server.pictures) == SAMPLED
    assert server.closed == 1


def test_pictures_are_the_samples(tmp_path: Path) -> None:
    out, server = tmp_path / "run", Server()
    train(out, settings(), trackers=Trackers(RunFolder(out), [server]))
    first, second = server.pictures[2]
    assert (first.name, second.name) == ("samples/0", "samples/1")
    sample = next(row for row in MetricsLog(out / "samples" / "samples.jsonl").rows() if row["step"] == 2)
    with Image.open(out / "samples" / sample["pictures"][1]["image"]) as image:
        width, height = image.size
        assert first.image.size == (4 * width, height)
        assert first.image.crop((width, 0, 2 * width, height)).tobytes() == image.convert("RGB").tobytes()
    lines = first.caption.split("\n")
    assert lines[0] == sample["prompt"]
    assert lines[1] == "rewards " + " ".join(f"{one['reward']:.3f}" for one in sample["pictures"])
    assert lines[2] == f"{sample['question']} ({sample['answer']})"
    assert lines[3:] == [f"{one['reward']:.3f} {one['text']}" for one in sample["answers"]]


@pytest.mark.parametrize("forgets", [0, 3, 6], ids=["keeps all", "lost its last steps", "is new"])
def test_a_resumed_run_sends_what_is_missing_and_nothing_twice(tmp_path: Path, forgets: int) -> None:
    """The run dies in step 6 and resumes after step 4; its tracker may have lost some of the steps 0 to 5."""
    out, server = tmp_path / "run", Server()
    with pytest.raises(Killed):
        train(out, settings(), act=killed, trackers=Trackers(RunFolder(out), [server]))
    assert list(server.values) == [0, 1, 2, 3, 4, 5]
    for step in list(server.values)[len(server.values) - forgets :]:
        del server.values[step]
        server.pictures.pop(step, None)
    before = set(server.values)
    train(out, settings(), resume=True, trackers=Trackers(RunFolder(out), [server]))
    assert sorted(server.values) == [0, 1, 2, 3, 4, 5, 6]
    assert without_times(server.values) == logged(out, times=False)
    assert {step: server.values[step] for step in {0, 1, 2, 3, 4, 5, 6} - before} == {
        step: row for step, row in logged(out).items() if step not in before
    }
    assert sorted(server.pictures) == list(SAMPLED)


def test_a_tracker_that_fails_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out, bad, good = tmp_path / "run", Server(fails_at=2), Server()
    with caplog.at_level(logging.WARNING, "pairuni"):
        train(out, settings(), trackers=Trackers(RunFolder(out), [bad, good]))
    said = [record.getMessage() for record in caplog.records if "goes on without" in record.getMessage()]
    assert said == ["server failed, so the run goes on without it: the server is gone"]
    assert (list(bad.values), bad.closed) == ([0, 1], 0)
    assert good.values == logged(out)


def test_a_tracker_that_cannot_begin_is_left_out(tmp_path: Path) -> None:
    class Absent(Server):
        def begin(self) -> int:
            raise RuntimeError("log in first")

    out, absent = tmp_path / "run", Absent()
    train(out, settings(), trackers=Trackers(RunFolder(out), [absent]))
    assert (absent.values, absent.closed) == ({}, 0)
    assert len(logged(out)) == 7


def test_scores_that_come_later_are_added(tmp_path: Path) -> None:
    server = Server()
    with Trackers(RunFolder(tmp_path), [server]) as trackers:
        trackers.begin()
        trackers.log({"step": 3, "loss": 0.5, "kl": float("nan")}, 3)
        trackers.log({"step": 3, "loss": 0.5, "kl": float("nan"), "eval/generation": 0.25}, 3)
    assert server.values == {3: {"loss": 0.5, "eval/generation": 0.25}}


def test_only_the_process_that_begins_them_logs(tmp_path: Path) -> None:
    """The trainer begins them on rank 0; on other ranks they do nothing."""
    server = Server()
    with Trackers(RunFolder(tmp_path), [server]) as trackers:
        trackers.sampled(1)
        trackers.log({"step": 1, "loss": 0.5}, 1)
    assert (server.values, server.closed) == ({}, 0)


def test_the_id_of_a_run_is_kept(tmp_path: Path) -> None:
    first, other = RunFolder(tmp_path / "a"), RunFolder(tmp_path / "b")
    assert run_id(first) == run_id(first) != run_id(other)


def test_a_missing_package_is_refused_before_anything_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = UserFolder(tmp_path / "user")
    monkeypatch.setattr("pairuni.api.training.find_spec", lambda name: None)
    said = fails(*user.train("--logging.to", "tensorboard,wandb"))
    assert "logging.to names tensorboard, which is not installed: pip install 'pairuni[tensorboard]'" in said
    assert not (user.root / "run").exists()


def test_a_folder_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """wandb writes to a folder of its name, which Python takes for a package without modules."""
    user = UserFolder(tmp_path / "user")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "no_tracker").mkdir()
    monkeypatch.setattr("pairuni.api.training.find_spec", lambda name: find_spec("no_tracker"))
    assert "pip install 'pairuni[wandb]'" in fails(*user.train("--logging.to=wandb"))


def test_settings_of_trackers(tmp_path: Path) -> None:
    user = UserFolder(tmp_path / "user")
    chosen = load_settings(RunSettings, user.recipe, ["--logging.to", "wandb, trackio"])
    assert (chosen.logging.to, chosen.logging.project) == (["wandb", "trackio"], "pairuni")
    with pytest.raises(ValueError, match=r"logging\.to is 'wanb', but must be one of 'tensorboard', 'wandb'"):
        load_settings(RunSettings, user.recipe, ["--logging.to", "wanb"])

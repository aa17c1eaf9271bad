"""Commands that write refuse a folder in use by another process, and being started as several processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pairuni import demo
from pairuni.cli.app import app
from pairuni.io.locks import folder_lock, target_lock
from user_folder import UserFolder, contents

Case = tuple[Callable[[UserFolder], tuple[str, ...]], Callable[[UserFolder], Path]]
CASES: dict[str, Case] = {
    "train": (lambda user: user.train(), lambda user: user.root / "run"),
    "train --resume": (lambda user: user.train("--resume"), lambda user: user.root / "run"),
    "demo": (lambda user: ("demo", "--out", str(user.root / "demo")), lambda user: user.root / "demo"),
    "pairs build": (lambda user: user.build(), lambda user: user.root / "built"),
    "pairs encode": (
        lambda user: ("pairs", "encode", *user.build()[2:]),
        lambda user: user.root / "built",
    ),
    "pairs split": (
        lambda user: ("pairs", "split", *user.build("--parts", "2")[2:]),
        lambda user: user.root / "built",
    ),
    "pairs join": (
        lambda user: ("pairs", "join", str(user.pairs.parent)),
        lambda user: user.pairs.parent,
    ),
    "pairs convert": (
        lambda user: ("pairs", "convert", str(user.pairs), str(user.root / "other" / "pairs.parquet")),
        lambda user: user.root / "other",
    ),
    "eval digits": (
        lambda user: ("eval", "digits", "--model", "tiny", "--out", str(user.root / "scores")),
        lambda user: user.root / "scores",
    ),
}
FILES: dict[str, Case] = {
    "pairs gallery": (
        lambda user: ("pairs", "gallery", str(user.pairs)),
        lambda user: user.pairs.parent / "gallery",
    ),
    "draw": (
        lambda user: ("draw", "one", "--model", str(user.model), "--out", str(user.root / "a.png")),
        lambda user: user.root / "a.png",
    ),
    "convert": (
        lambda user: ("convert", str(user.model), str(user.root / "m"), "--layout", "original"),
        lambda user: user.root / "m",
    ),
}


@contextmanager
def held(name: str, folder: Path) -> Iterator[None]:
    with target_lock(folder, "other") if name in FILES else folder_lock(folder, "other"):
        yield


@pytest.mark.parametrize("name", [*CASES, *FILES])
def test_a_folder_in_use_is_refused(name: str, tmp_path: Path) -> None:
    user = UserFolder(tmp_path)
    words, folder = (CASES | FILES)[name]
    with held(name, folder(user)):
        before = contents(tmp_path)
        result = CliRunner().invoke(app, list(words(user)))
        assert contents(tmp_path) == before
    assert result.exit_code == 1
    assert "is in use by process" in result.stderr
    assert "(pairuni other, since" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr


@pytest.mark.parametrize("name", ["pairs build", "pairs split", "pairs join", "convert"])
def test_processes_that_would_each_do_all_of_the_work_are_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = UserFolder(tmp_path)
    before = contents(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    result = CliRunner().invoke(app, list((CASES | FILES)[name][0](user)))
    assert result.exit_code == 1
    assert f"pairuni {name} runs as one process, but WORLD_SIZE says that 2 were started" in result.stderr
    assert contents(tmp_path) == before


def test_the_demo_removes_what_a_kill_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".summary.json.partial").write_text("ha")
    monkeypatch.setattr(demo, "load_policy", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        demo.run_demo(0, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]

"""Every command that writes to a folder refuses one in which another process is at work, and several processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pairuni import demo
from pairuni.cli.app import app
from pairuni.io.locks import folder_lock, target_lock
from test_bad_input import House, contents

Case = tuple[Callable[[House], tuple[str, ...]], Callable[[House], Path]]
CASES: dict[str, Case] = {
    "train": (lambda house: house.train(), lambda house: house.root / "run"),
    "train --resume": (lambda house: house.train("--resume"), lambda house: house.root / "run"),
    "demo": (lambda house: ("demo", "--out", str(house.root / "demo")), lambda house: house.root / "demo"),
    "pairs build": (lambda house: house.build(), lambda house: house.root / "built"),
    "pairs encode": (
        lambda house: ("pairs", "encode", *house.build()[2:]),
        lambda house: house.root / "built",
    ),
    "pairs split": (
        lambda house: ("pairs", "split", *house.build("--parts", "2")[2:]),
        lambda house: house.root / "built",
    ),
    "pairs join": (
        lambda house: ("pairs", "join", str(house.pairs.parent)),
        lambda house: house.pairs.parent,
    ),
    "pairs convert": (
        lambda house: ("pairs", "convert", str(house.pairs), str(house.root / "other" / "pairs.parquet")),
        lambda house: house.root / "other",
    ),
    "eval digits": (
        lambda house: ("eval", "digits", "--out", str(house.root / "scores")),
        lambda house: house.root / "scores",
    ),
}
BESIDE: dict[str, Case] = {
    "pairs gallery": (
        lambda house: ("pairs", "gallery", str(house.pairs)),
        lambda house: house.pairs.parent / "gallery",
    ),
    "draw": (
        lambda house: ("draw", "one", "--model", str(house.model), "--out", str(house.root / "a.png")),
        lambda house: house.root / "a.png",
    ),
    "convert": (
        lambda house: ("convert", str(house.model), str(house.root / "m"), "--layout", "original"),
        lambda house: house.root / "m",
    ),
}


@contextmanager
def held(name: str, folder: Path) -> Iterator[None]:
    with target_lock(folder, "other") if name in BESIDE else folder_lock(folder, "other"):
        yield


@pytest.mark.parametrize("name", [*CASES, *BESIDE])
def test_a_folder_in_use_is_refused(name: str, tmp_path: Path) -> None:
    house = House(tmp_path)
    words, folder = (CASES | BESIDE)[name]
    with held(name, folder(house)):
        before = contents(tmp_path)
        result = CliRunner().invoke(app, list(words(house)))
        assert contents(tmp_path) == before
    assert result.exit_code == 1
    assert "is in use by process" in result.stderr
    assert "(pairuni other, since" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr


@pytest.mark.parametrize("name", ["train", "demo", "pairs build", "pairs split", "pairs join", "convert"])
def test_processes_that_would_each_do_all_of_the_work_are_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(tmp_path)
    before = contents(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    result = CliRunner().invoke(app, list((CASES | BESIDE)[name][0](house)))
    assert result.exit_code == 1
    assert f"pairuni {name} runs as one process, but WORLD_SIZE says that 2 were started" in result.stderr
    assert contents(tmp_path) == before


def test_the_demo_removes_what_a_kill_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".summary.json.partial").write_text("ha")
    monkeypatch.setattr(demo, "load_policy", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        demo.run_demo(0, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]

"""Work killed at a file event and resumed ends as if never killed, and leaves nothing behind."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kill_events import chosen, run_child
from pairuni import demo
from pairuni.cli import evaluate, training
from pairuni.cli import pairs as pairs_commands
from pairuni.config import DigitsSettings, PairGRPOSettings, RunSettings
from pairuni.digits.detectors import evaluation_detector
from user_folder import UserFolder

SLOW = [pytest.mark.slow, pytest.mark.timeout(3600)]
FEW_OR_ALL = [4, pytest.param(None, marks=SLOW)]
ALL = [pytest.param(family, None, marks=SLOW) for family in ("janus", "lumina_dimoo")]
TIMES = re.compile(r'"(step_time|rollout_time|update_time|tokens_per_second|seconds)": [^,}]+')


def plain(path: Path) -> bytes:
    """A file's content without what differs from one run to the next: times, and the run's own folder."""
    data = path.read_bytes()
    if path.suffix in {".json", ".jsonl", ".html"}:
        return TIMES.sub("", data.decode()).encode()
    return data


def contents(folder: Path) -> dict[str, bytes]:
    found = {str(p.relative_to(folder)): plain(p) for p in sorted(folder.rglob("*")) if p.is_file()}
    return {
        name: data
        for name, data in found.items()
        if Path(name).name not in {"report.html", "SHA256SUMS"}  # a page of times; sums of paths and times
    }


def check(
    root: Path,
    work: Callable[[Path], Any],
    again: Callable[[Path], Any],
    most: int | None,
    *,
    ignore: str = "",
) -> None:
    """``work`` killed at its events and finished by ``again`` leaves what an unbroken one does.

    Both happen in the same folder, ``root/out``. ignore: files that may differ.
    """
    out = root / "out"
    total = run_child(lambda: work(out), out)
    assert total is not None
    assert total > 10
    expected = contents(out)
    for event in chosen(total, most):
        shutil.rmtree(out)
        assert run_child(lambda: work(out), out, kill_at=event) is None, event
        run_child(lambda: again(out), out)
        left = contents(out)
        assert sorted(left) == sorted(expected), event
        differ = [
            name for name in expected if left[name] != expected[name] and not re.search(ignore or "$^", name)
        ]
        assert not differ, (event, differ)


@pytest.mark.parametrize(("family", "most"), [("janus", 4), ("lumina_dimoo", 2), *ALL])
def test_train(tmp_path: Path, family: str, most: int | None) -> None:
    user = UserFolder(tmp_path, family)
    lines = user.pairs.read_text().splitlines()
    user.pairs.write_text(
        "".join(line.replace('"prompt": "a"', f'"prompt": "a {i}"') + "\n" for i, line in enumerate(lines))
    )
    words = ["--evaluation.every", "2", "--evaluation.items", "1", "--pairgrpo.steps", "3"]
    words += ["--logging.samples-every", "1", "--checkpoint.keep", "1"]

    def work(out: Path, *, resume: bool = False) -> None:
        training.train(user.recipe, words, out, resume=resume, dry_run=False)

    def again(out: Path) -> None:
        begun = any((out / name).exists() for name in ("config.toml", "metrics.jsonl", "checkpoints"))
        work(out, resume=begun)

    check(tmp_path, work, again, most)


@pytest.mark.parametrize("most", FEW_OR_ALL)
def test_pairs_build(tmp_path: Path, most: int | None) -> None:
    user = UserFolder(tmp_path)
    words = list(user.build()[2:])
    words[words.index("--out") + 1] = str(tmp_path / "out")

    def work(out: Path) -> None:
        pairs_commands.build(None, words)

    check(tmp_path, work, work, most)


@pytest.mark.parametrize("most", FEW_OR_ALL)
def test_eval_digits(tmp_path: Path, most: int | None) -> None:
    settings = DigitsSettings(model="tiny", device="cpu", dtype="float32", seed=0, guidance=2.0, items=6)
    evaluation_detector()  # fitted once here, inherited by the children

    def work(out: Path) -> None:
        evaluate.digits(settings.model_copy(update={"out": out}))

    check(tmp_path, work, work, most)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = demo.demo_settings

    def settings(seed: int, pairs: Path) -> RunSettings:
        full = original(seed, pairs)
        steps = PairGRPOSettings(**{**full.pairgrpo.model_dump(), "steps": 2, "pairs_per_batch": 2})
        return full.model_copy(update={"pairgrpo": steps})

    monkeypatch.setattr(demo, "demo_settings", settings)
    monkeypatch.setattr(demo, "SAMPLES", 30)
    monkeypatch.setattr(demo, "HELD_OUT", 30)

    def again(out: Path) -> None:
        if not (out / "summary.json").exists():  # killed after it, while the report was written
            demo.run_demo(1, out)

    def once(out: Path) -> None:
        demo.run_demo(1, out)

    check(tmp_path, once, again, 40)


def test_the_harness_kills_where_it_says(tmp_path: Path) -> None:
    def work() -> None:
        for name in ("a", "b", "c"):
            (tmp_path / name).write_text(json.dumps(name))

    assert run_child(work, tmp_path) == 3
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    assert run_child(work, tmp_path, kill_at=3) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        run_child(lambda: 1 / 0, tmp_path)

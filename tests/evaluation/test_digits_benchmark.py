import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pairuni.cli.app import app
from pairuni.config import DigitsSettings
from pairuni.digits.evaluation import BATCH, evaluate
from pairuni.digits.world import held_out_items
from pairuni.distributed.shares import Share
from pairuni.evaluation.benchmark import run_benchmark
from pairuni.evaluation.digits import digits_benchmark
from pairuni.evaluation.model import Model

ITEMS = 204


@pytest.mark.slow
def test_digits_killed_and_resumed_score_as_evaluate_does(tmp_path: Path, killed: Any, recorded: Any) -> None:
    out = tmp_path / "run"
    words = ["eval", "digits", "--model", "tiny", "--items", str(ITEMS), "--device", "cpu", "--out", str(out)]
    killed(*words).kill_when(lambda: len(recorded(out)) >= BATCH)
    before = recorded(out)
    assert BATCH <= len(before) < 2 * ITEMS
    told = killed(*words).finish()
    after = recorded(out)
    assert len(after) == len(set(after)) == 2 * ITEMS
    assert after[: len(before)] == before
    policy = Model(name="tiny", device="cpu").policy
    direct = evaluate(policy, held_out_items(0, ITEMS), guidance=policy.default_guidance, seed=0).scores()
    assert json.loads((out / "summary.json").read_text())["after"] == direct
    for task, score in direct.items():
        assert f"Digits {task} (pairuni): {100 * score:.2f} [" in told


def test_digits_have_a_result_a_task(tmp_path: Path) -> None:
    benchmark = digits_benchmark(DigitsSettings(model="tiny", items=34, seed=3), tmp_path)
    results = run_benchmark(benchmark, Model(name="tiny", device="cpu", seed=3), tmp_path, Share())
    assert [result.benchmark for result in results] == ["Digits understanding", "Digits generation"]
    for result in results:
        assert result.interval[0] <= result.score <= result.interval[1]
        assert result.counts["all"] == 34
        assert result.settings["seed of the items"] == 3
    assert json.loads((tmp_path / "evaluation" / "after.json").read_text())["generation"]["count"] == 34


def test_several_processes_need_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    ended = CliRunner().invoke(app, ["eval", "digits", "--model", "tiny", "--items", "34", "--device", "cpu"])
    assert ended.exit_code == 1
    assert "give --out" in ended.output

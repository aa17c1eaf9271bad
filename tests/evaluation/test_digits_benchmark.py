import json
from pathlib import Path

import pytest
from benchmark_runs import Killed, evaluate, model_of, recorded, run_alone, tiny

from pairuni.config import DigitsSettings
from pairuni.digits.evaluation import BATCH
from pairuni.digits.evaluation import evaluate as scores_of
from pairuni.digits.world import held_out_items
from pairuni.evaluation.digits import digits_benchmark

ITEMS = 204


@pytest.mark.slow
def test_digits_killed_and_resumed_score_as_evaluate_does(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ("digits", "--model", "tiny", "--items", ITEMS, "--device", "cpu", "--out", out)
    Killed(tmp_path, *words).kill_when(lambda: len(recorded(out)) >= BATCH)
    before = recorded(out)
    assert BATCH <= len(before) < 2 * ITEMS
    said = evaluate(*words)
    after = recorded(out)
    assert len(after) == len(set(after)) == 2 * ITEMS
    assert after[: len(before)] == before
    policy = tiny().policy
    direct = scores_of(policy, held_out_items(0, ITEMS), guidance=policy.default_guidance, seed=0).scores()
    assert json.loads((out / "summary.json").read_text())["after"] == direct
    for task, score in direct.items():
        assert f"Digits {task} (pairuni): {100 * score:.2f} [" in said


def test_digits_have_a_result_for_each_task(tmp_path: Path) -> None:
    benchmark = digits_benchmark(DigitsSettings(model="tiny", items=34, seed=3), tmp_path)
    results = run_alone(benchmark, tmp_path, model_of(tiny().policy, seed=3))
    assert [result.benchmark for result in results] == ["Digits understanding", "Digits generation"]
    for result in results:
        assert result.interval is not None
        assert result.interval[0] <= result.score <= result.interval[1]
        assert result.counts["all"] == 34
        assert result.settings["seed of the items"] == 3
    understanding = results[0]
    forms = ["open", "open, words alone", "options", "options, words alone"]
    assert list(understanding.parts)[-4:] == forms
    assert understanding.counts["open"] + understanding.counts["options"] == 34
    strict, words = (understanding.parts[f"options{rest}"] for rest in ("", ", words alone"))
    assert strict < words  # the tiny model knows more options than letters
    assert understanding.parts["open"] == understanding.parts["open, words alone"]
    assert json.loads((tmp_path / "evaluation" / "after.json").read_text())["generation"]["count"] == 34


def test_several_processes_need_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "give --out" in evaluate("digits", "--model", "tiny", "--items", 34, "--device", "cpu", code=1)

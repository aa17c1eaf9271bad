"""The bench of CLIP rewards: contenders that score the same, a command that prints what it measured."""

import json

import pytest
from typer.testing import CliRunner

from benchmarks import child, reward, suite
from benchmarks.app import app
from benchmarks.ladder import markdown
from benchmarks.reward import ADDS, build, contenders, workload
from benchmarks.settings import RewardBenchSettings

SMALL = {"prompts": 2, "rollouts": 3, "side": 40}


def test_contenders_do_the_same_work() -> None:
    settings = RewardBenchSettings(device="cpu", **SMALL)
    prompts, images = workload(settings)
    assert (len(prompts), len(set(prompts)), len(images)) == (6, 2, 6)
    works = contenders(build(settings))
    assert list(works) == list(ADDS)
    alone, *others = (work(prompts, images) for work in works.values())
    assert len(set(alone)) == 6
    for scores in others:
        assert scores == pytest.approx(alone, abs=1e-5)


def test_the_command_prints_what_it_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        child,
        "run_module",
        lambda _, name, words: reward.score(name, RewardBenchSettings.model_validate_json(words)),
    )
    words = [word for key, value in SMALL.items() for word in (f"--{key}", str(value))]
    done = CliRunner().invoke(app, ["reward", *words, "--device", "cpu", "--repeats", "1"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout.splitlines()[-1])
    rows = found["contenders"]
    assert list(rows) == list(ADDS)
    for row in rows.values():
        assert row["images_per_second"] == pytest.approx(6 / row["seconds"])
        assert row["peak_bytes"] >= row["start_bytes"] > 50 << 20
    ratio = rows["one-at-a-time"]["seconds"] / rows["pairuni"]["seconds"]
    assert found["times_faster"] == pytest.approx(ratio)
    assert found["score_difference"] < 1e-5
    assert "images/s" in markdown({"small": found})


def test_an_unknown_model_is_a_sentence() -> None:
    done = CliRunner().invoke(app, ["reward", "--model", "vit-b"])
    assert done.exit_code == 2
    assert "vit-b" in done.stderr


@pytest.mark.parametrize("name", ["reward-small-cpu", "reward-vit-h-14-cuda"])
def test_the_list_names_a_command_that_is_understood(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []
    monkeypatch.setattr("benchmarks.reward.measure", lambda settings: measured.append(settings) or {})
    words = (suite.CPU | suite.CUDA)[name].replace("--device cuda", "--device cpu").split()
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    assert measured[0].prompts * measured[0].rollouts == 64

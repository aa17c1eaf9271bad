"""RUN@best: the checkpoint with the best held-out score, as a model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from commands import call
from pairuni.policies.policy import UnifiedPolicy
from pairuni.runs.best import best_checkpoint
from pairuni.runs.models import export_checkpoint, load_model, resolve_model
from user_folder import UserFolder

SCORES = {0: (0.9, 0.0), 1: (0.2, 0.5), 2: (0.8, 0.6), 3: (0.7, 0.6)}
"""Understanding and generation, by step."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> UserFolder:
    user = UserFolder(tmp_path_factory.mktemp("best"))
    reward = ("--reward.understanding=user_folder:Letters", "--rollout.understanding=4")
    code, _, errors = call(*user.train("--pairgrpo.steps=3", "--checkpoint.keep=3", *reward))
    assert code == 0, errors
    return user


@pytest.fixture
def run(trained: UserFolder, tmp_path: Path) -> Path:
    """A copy of a run of three steps with all checkpoints, as if it had been evaluated."""
    out = tmp_path / "run"
    shutil.copytree(trained.root / "run", out)
    score(out, SCORES)
    return out


def score(run: Path, scores: Mapping[int, tuple[float, float]]) -> None:
    rows = {step: {"step": step} for step in scores}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        row = {name: value for name, value in json.loads(line).items() if not name.startswith("eval/")}
        rows[row["step"]] = row
    for step, (understanding, generation) in scores.items():
        rows[step] |= {"eval/understanding": understanding, "eval/generation": generation}
    (run / "metrics.jsonl").write_text("".join(json.dumps(rows[step]) + "\n" for step in sorted(rows)))


def weights(policy: UnifiedPolicy) -> dict[str, torch.Tensor]:
    return dict(policy.module.state_dict())


def test_the_best_checkpoint_loads_wherever_a_model_does(run: Path, tmp_path: Path) -> None:
    name = f"{run}@best"
    assert resolve_model(name) == run / "checkpoints" / "step-000002"
    best, second = weights(load_model(name)), weights(load_model(run / "checkpoints" / "step-000002"))
    final = weights(load_model(run))
    assert all(torch.equal(best[key], second[key]) for key in second)
    assert any(not torch.equal(best[key], final[key]) for key in final)

    code, said, errors = call("export", name)
    assert code == 0, errors
    assert f"{run / 'exported' / 'step-000002'}: the model of {run / 'checkpoints' / 'step-000002'}" in said
    assert "the best checkpoint is that of step 2, held-out score 0.7000" in errors
    exported = load_file(run / "exported" / "step-000002" / "model.safetensors")
    assert all(torch.equal(best[key], tensor) for key, tensor in exported.items())

    images = []
    for model in (name, run / "exported" / "step-000002"):
        code, _, errors = call("draw", "a one", "--model", model, "--device=cpu", "--out", tmp_path / "a.png")
        assert code == 0, errors
        images.append((tmp_path / "a.png").read_bytes())
    assert images[0] == images[1]


def test_of_two_equal_scores_the_later_one_is_the_best(run: Path) -> None:
    score(run, {1: (0.5, 0.5), 2: (0.6, 0.4), 3: (0.1, 0.1)})
    assert best_checkpoint(run).step == 2


def test_a_better_step_without_a_checkpoint_is_named(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.rmtree(run / "checkpoints" / "step-000002")
    with caplog.at_level("INFO", logger="pairuni"):
        assert resolve_model(f"{run}@best") == run / "checkpoints" / "step-000003"
    assert "higher at step 2, 0.7000, but no checkpoint of it is kept; checkpoint.keep_best" in caplog.text


def test_a_run_without_scores_has_no_best_one(run: Path) -> None:
    score(run, {0: (0.5, 0.5)})
    with pytest.raises(
        ValueError, match=r"no checkpoint of .*run has a held-out score.*set evaluation\.every"
    ):
        load_model(f"{run}@best")
    with pytest.raises(FileNotFoundError, match="none: no such run folder"):
        load_model(run.parent / "none@best")


def test_a_folder_may_have_such_a_name(run: Path, tmp_path: Path) -> None:
    export_checkpoint(run / "checkpoints" / "step-000001", tmp_path / "mine@best")
    assert resolve_model(tmp_path / "mine@best") == tmp_path / "mine@best"


def test_training_names_the_best_model_and_settings_need_scores(trained: UserFolder, tmp_path: Path) -> None:
    words = trained.train("--checkpoint.keep-best=1", "--resume")
    code, _, errors = call(*words)
    assert code == 1
    assert "checkpoint.keep_best is 1, but without held-out scores no checkpoint is the best" in errors
    score(trained.root / "run", SCORES)
    code, said, errors = call(*trained.train("--pairgrpo.steps=3", "--checkpoint.keep=3", "--resume"))
    assert code == 0, errors
    run = trained.root / "run"
    assert f"best held-out score: 0.700 at step 2; its model is {run}@best" in said

"""Run folders and checkpoints as models: loading, export, evaluation."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from pairuni.cli.app import app
from pairuni.policies.registry import load_policy
from pairuni.runs.models import load_model, resolve_model
from pairuni.training.checkpoint import CheckpointError
from user_folder import UserFolder, contents


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> UserFolder:
    user = UserFolder(tmp_path_factory.mktemp("user"))
    assert CliRunner().invoke(app, list(user.train())).exit_code == 0
    return user


@pytest.fixture
def run(trained: UserFolder, tmp_path: Path) -> Path:
    """A copy of a run of two steps with both checkpoints."""
    out = tmp_path / "run"
    shutil.copytree(trained.root / "run", out)
    return out


def call(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout + result.stderr


def test_a_run_folder_loads_final_or_the_newest_checkpoint(run: Path, tmp_path: Path) -> None:
    assert resolve_model(run) == run / "final"
    images = []
    for number in range(2):
        code, said = call(
            "draw", "a red one", "--out", tmp_path / f"{number}.png", "--model", run, "--device", "cpu"
        )
        assert code == 0, said
        images.append((tmp_path / f"{number}.png").read_bytes())
        shutil.rmtree(run / "final", ignore_errors=True)
    assert "with the weights of" in said
    assert "step-000002" in said
    assert images[0] == images[1]
    code, said = call("answer", tmp_path / "0.png", "what?", "--model", run / "checkpoints" / "step-000001")
    assert code == 0, said


@pytest.mark.parametrize("finished", [True, False])
def test_export(run: Path, tmp_path: Path, finished: bool) -> None:
    final = load_file(run / "final" / "model.safetensors")
    if not finished:
        shutil.rmtree(run / "final")
    before = contents(run / "checkpoints")
    code, said = call("export", run)
    assert code == 0, said
    made = run / "exported" / "step-000002"
    assert f"{made}: the model of {run / 'checkpoints' / 'step-000002'}\n" in said
    exported = load_file(made / "model.safetensors")
    assert all(exported[name].equal(tensor) for name, tensor in final.items())
    assert load_policy(made).module.config.model_type == "janus"
    assert contents(run / "checkpoints") == before
    code, said = call("export", run / "checkpoints" / "step-000001", "--out", tmp_path / "first")
    assert code == 0, said
    first = load_file(tmp_path / "first" / "model.safetensors")
    assert any(not first[name].equal(tensor) for name, tensor in final.items())
    code, said = call("export", run)
    assert code == 1
    assert "step-000002 already exists" in said


def test_damaged_checkpoints_and_other_folders(run: Path, tmp_path: Path) -> None:
    shutil.rmtree(run / "final")
    newest = run / "checkpoints" / "step-000002" / "trained.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1] + b"\1")
    code, said = call("export", run)
    assert code == 0, said
    assert "step-000002 is damaged" in said
    assert (run / "exported" / "step-000001").is_dir()
    with pytest.raises(CheckpointError, match="its checksum differs"):
        load_model(newest.parent)
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder, words in ((tmp_path / "none", "no such folder"), (empty, "is not a checkpoint")):
        code, said = call("export", folder)
        assert code == 1
        assert words in said
    with pytest.raises(ValueError, match=r"has no config\.json"):
        load_model(empty)


def test_export_needs_and_checks_the_base_model(run: Path, trained: UserFolder, tmp_path: Path) -> None:
    shutil.rmtree(run / "final")
    moved = tmp_path / "moved"
    shutil.copytree(trained.model, moved)
    hidden = trained.model.with_name("hidden")
    trained.model.rename(hidden)
    try:
        code, said = call("export", run)
        assert code == 1
        assert "the model that its run began with is needed" in said
        code, said = call("export", run, "--base", moved)
        assert code == 0, said
    finally:
        hidden.rename(trained.model)
    weights = load_file(moved / "model.safetensors")
    name = next(name for name in weights if "vision_model" in name and weights[name].any())
    save_file({**weights, name: weights[name] * 1.5}, moved / "model.safetensors", metadata={"format": "pt"})
    code, said = call("export", run, "--base", moved, "--out", tmp_path / "other")
    assert code == 1
    assert "is not the model that its run began with" in said
    assert not (tmp_path / "other").exists()


def test_relative_names_of_model_and_adapter_are_known_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("peft")
    user = UserFolder(tmp_path / "user")
    recipe = user.recipe.read_text()
    user.recipe.write_text(recipe.replace(str(user.model), "model"))
    monkeypatch.chdir(user.root)
    lora = ("--policy.lora.rank=2", "--pairgrpo.steps=1")
    for out, words in (("first", lora), ("second", (*lora, "--policy.lora.adapter=first/final"))):
        code, said = call("train", "recipe.toml", "--out", out, *words)
        assert code == 0, said
    monkeypatch.chdir(tmp_path)
    for out in ("first", "second"):
        code, said = call("export", f"user/{out}", "--out", f"{out}-exported")
        assert code == 0, said
        code, said = call("merge", f"user/{out}", "--out", f"{out}-merged")
        assert code == 0, said
        exported, merged = (load_file(f"{out}-{how}/model.safetensors") for how in ("exported", "merged"))
        assert all(merged[name].equal(tensor) for name, tensor in exported.items())


def test_eval_accepts_a_run_folder(run: Path, tmp_path: Path) -> None:
    shutil.rmtree(run / "final")
    code, said = call("eval", "digits", "--model", run, "--items", "30", "--out", tmp_path / "scores")
    assert code == 0, said

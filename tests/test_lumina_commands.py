"""The commands on a tiny random Lumina-DiMOO."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from commands import call, fails
from pairuni.policies.registry import load_policy
from pairuni.runs.models import load_model
from user_folder import UserFolder

pytest.importorskip("diffusers")

LETTERS = ("--reward.understanding=user_folder:Letters", "--rollout.understanding=3")
CPU = ("--device", "cpu")


def done(*words: object) -> str:
    code, said, errors = call(*words)
    assert code == 0, errors
    return said


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> UserFolder:
    return UserFolder(tmp_path_factory.mktemp("user"), "lumina_dimoo")


@pytest.fixture(scope="module")
def run(user: UserFolder) -> Path:
    """A run with held-out evaluations, whose images are made in fewer steps than the checkpoint's."""
    held = user.root / "held" / "pairs.jsonl"
    shutil.copytree(user.pairs.parent, held.parent)
    held.write_text(held.read_text().replace('"prompt": "a"', '"prompt": "held"'))
    words = ("--evaluation.every=1", "--evaluation.pairs", held, "--evaluation.items=2", *LETTERS)
    done(*user.train(), *words, "--policy.image_steps=3", "--logging.samples-every=1", "--pairgrpo.beta=0.1")
    return user.root / "run"


def test_train_writes_a_run(run: Path) -> None:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 1, 2]
    assert all(0 <= row["eval/generation"] <= 1 for row in rows)
    for row in rows[1:]:
        for task in ("understanding", "generation"):
            assert row[f"{task}/sampling/sampling_logp_difference/max"] < 1e-4
            assert row[f"{task}/kl"] >= 0
        assert row["grad_norm"] > 0
    assert ">Pairs<" in (run / "report.html").read_text()
    pictures = {Image.open(path).size for path in (run / "samples").rglob("*.png")}
    assert pictures >= {(8, 8)}
    final = json.loads((run / "final" / "config.json").read_text())
    assert (final["model_type"], final["sampling"]["image_steps"]) == ("llada", 3)
    assert (run / "final" / "vqvae" / "config.json").is_file()


def test_a_dry_run_plans_what_a_step_costs(user: UserFolder) -> None:
    policy = load_policy(user.model, weights=False)
    said = done("train", user.recipe, "--dry-run", "--pairgrpo.beta=0.1")
    parameters = sum(one.numel() for one in policy.module.parameters())
    assert f"parameters          {parameters:,}" in said
    # 1 pair x (2 answers x 3 tokens + 2 images x 16 codes)
    assert "at most 38 sampled" in said
    assert "24 GB (RTX 4090): fits, about" in said
    fewer = done("train", user.recipe, "--dry-run", "--policy.shrink=4")
    replayed = [
        int(re.search(r"at most ([\d,]+) replayed", text)[1].replace(",", "")) for text in (said, fewer)
    ]
    assert replayed[1] < replayed[0] / 2
    # two layers, two matrices of 32 x 32 and 32 x 48 in each
    adapters = 2 * 2 * (32 + 32 + 32 + 48)
    lora = ("--policy.lora.rank=2", "--policy.lora.targets", '["q_proj", "up_proj"]')
    assert f"  trained           {adapters:,}" in done("train", user.recipe, "--dry-run", *lora)
    assert "fits: " in done("train", user.recipe, "--dry-run", "--gpus", 2, "--pairgrpo.pairs-per-batch=2")


def test_the_model_of_a_run_answers_draws_and_edits(user: UserFolder, run: Path, tmp_path: Path) -> None:
    image, out = user.raw / "1.png", tmp_path / "made.png"
    policy = load_policy(run / "final", device="cpu", dtype="float32")
    said = done("answer", image, "what?", "--model", run, *CPU)
    assert said.rstrip("\n") == policy.answer(Image.open(image), "what?")
    assert "'what?' shows 2 images, but the policy" in fails(
        "answer", image, image, "what?", "--model", run, *CPU
    )
    done("draw", "a cat", "--model", run, "--out", out, *CPU)
    drawn = policy.generate_images("a cat")[0]
    assert Image.open(out).tobytes() == drawn.tobytes()
    done("edit", image, "make it blue", "--model", run, "--out", out, *CPU)
    assert Image.open(out).tobytes() == policy.edit_image(Image.open(image), "make it blue").tobytes()
    assert "contains the special token <IMAGE>" in fails(
        "draw", "<IMAGE>", "--model", run, "--out", out, *CPU
    )


def test_a_checkpoint_is_exported_as_the_final_model(run: Path, tmp_path: Path) -> None:
    done("export", run, "--out", tmp_path / "exported")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "exported" / name).read_bytes() == (run / "final" / name).read_bytes()
    for name in ("model.safetensors", "vqvae/diffusion_pytorch_model.safetensors"):
        ours, theirs = load_file(tmp_path / "exported" / name), load_file(run / "final" / name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_adapters_are_trained_and_merged(user: UserFolder, tmp_path: Path) -> None:
    out = tmp_path / "run"
    lora = ("--policy.lora.rank=2", "--policy.lora.targets", '["q_proj", "up_proj"]', *LETTERS)
    done("train", user.recipe, "--out", out, *lora, "--policy.image_steps=3")
    assert {path.name for path in (out / "final").iterdir()} >= {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    done("merge", out, "--out", tmp_path / "merged")
    # the adapter's model samples as its run did
    assert load_model(out, device="cpu").config.image_steps == 3
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert config["sampling"]["image_steps"] == 3
    before, after = (
        load_file(user.model / "model.safetensors"),
        load_file(tmp_path / "merged" / "model.safetensors"),
    )
    changed = {
        name.rpartition(".")[0].rpartition(".")[2]
        for name in before
        if not torch.equal(before[name], after[name])
    }
    assert changed == {"q_proj", "up_proj"}
    adapted, merged = (load_policy(tmp_path / "merged", device="cpu"), load_policy(user.model, device="cpu"))
    merged.load_adapter(out / "final")
    image = Image.open(user.raw / "0.png")
    assert adapted.answer(image, "what?") == merged.answer(image, "what?")


def test_a_text_that_it_cannot_read_is_named(user: UserFolder, tmp_path: Path) -> None:
    spoiled = user.pairs.with_name("spoiled.jsonl")
    spoiled.write_text(user.pairs.read_text().replace('"b?"', '"is </answer> it?"', 1))
    for words in (("--dry-run",), ("--out", tmp_path / "run")):
        said = fails("train", user.recipe, "--data.pairs", spoiled, *words)
        assert f"{spoiled}, line 1, field understand_ann.question: 'is </answer> it?' contains" in said


def test_settings_of_another_family_are_refused(user: UserFolder, tmp_path: Path) -> None:
    out = tmp_path / "run"
    said = fails("train", user.recipe, "--out", out, "--policy.type=janus")
    assert "is a model of policy.type lumina_dimoo, but policy.type is janus; set it to lumina_dimoo." in said
    said = fails("train", user.recipe, "--out", out, "--policy.image_size=10")
    assert "policy.image_size is 10, but this model's images have sides of multiples of 4 pixels" in said
    said = fails("train", user.recipe, "--out", out, '--policy.trainable=["generation_head"]')
    assert "no part generation_head; its parts are language_model" in said
    said = fails("train", user.recipe, "--out", out, "--policy.type=janus", "--policy.shrink=2")
    assert "--policy.shrink is a setting of policy.type lumina_dimoo only" in said
    assert not out.exists()


def test_the_agreement_of_mixes(user: UserFolder, tmp_path: Path) -> None:
    out = tmp_path / "agreement"
    said = fails("agreement", user.recipe, "--out", out, "--batches=1", *LETTERS)
    assert "the mix low-similarity compares images by the policy's vision tower" in said
    assert not (out / "settings.json").exists()
    said = done("agreement", user.recipe, "--out", out, "--batches=2", "--mixes=pairug,random", *LETTERS)
    assert str(out / "agreement.html") in said
    rows = [json.loads(line) for line in (out / "agreement.jsonl").read_text().splitlines()]
    assert len(rows) == 4
    assert all("gradient_agreement/layer_01" in row["agreement"] for row in rows)


def test_it_encodes_no_images_for_a_build(user: UserFolder) -> None:
    said = fails(*user.build())
    assert "has no vision tower; choose another image encoder" in said


@pytest.mark.parametrize("benchmark", ["digits", "digits-edits"])
def test_the_digits_world(user: UserFolder, tmp_path: Path, benchmark: str) -> None:
    """Its images have 32 pixels."""
    model = tmp_path / "model"
    shutil.copytree(user.model, model)
    config = json.loads((model / "config.json").read_text())
    config["sampling"] |= {"image_size": 32, "edit_size": 32, "image_steps": 2}
    (model / "config.json").write_text(json.dumps(config))
    words = ("--items", 8 if benchmark == "digits-edits" else 34)
    said = done("eval", benchmark, "--model", model, *words, "--out", tmp_path / "out", *CPU)
    assert "Digits" in said
    assert (tmp_path / "out" / "table.txt").is_file()

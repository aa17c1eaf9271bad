"""`pairuni train`: runs, dry runs, mistakes and Ctrl-C."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

import tiny_detectors
from commands import call, fails
from pairuni.cli.plan import describe_cards
from pairuni.config import RunSettings, load_settings
from pairuni.pairgrpo.plan import Plan, disk_bytes, plan_run, size_in_words
from pairuni.runs.models import load_for_run
from reference import tiny_hpsv2
from user_folder import Brightness, UserFolder


class Scored(Brightness):
    """A reward that holds a model."""

    name = "scored"

    def __init__(self) -> None:
        self.models = (torch.nn.Linear(1024, 512, bias=False),)


@pytest.fixture
def user(tmp_path: Path) -> UserFolder:
    return UserFolder(tmp_path / "user")


@pytest.fixture
def recipe(user: UserFolder) -> Path:
    return user.recipe


@pytest.fixture
def pairs(user: UserFolder) -> Path:
    return user.pairs


def test_train_writes_a_run(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    code, said, errors = call("train", recipe, "--pairgrpo.learning-rate", "2e-3", "--out", out, "--seed=5")
    assert code == 0, errors
    assert str(out / "report.html") in said
    settings = load_settings(RunSettings, out / "config.toml")
    assert (settings.pairgrpo.learning_rate, settings.seed) == (2e-3, 5)
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 2
    assert (out / "final" / "model.safetensors").is_file()
    assert json.loads((out / "summary.json").read_text())["steps"] == 2
    assert ">Pairs<" in (out / "report.html").read_text()

    config = (out / "config.toml").read_bytes()
    assert "already holds a run; add --resume" in fails("train", recipe, "--out", out)
    kept = (out / "config.toml").read_text()
    fails("train", recipe, "--pairgrpo.steps=3", "--seed=6", "--out", out, "--resume")
    assert (out / "config.toml").read_text() == kept
    assert (out / "config.toml").read_bytes() == config

    code, _, errors = call("train", recipe, "--pairgrpo.steps=3", "--seed=5", "--out", out, "--resume")
    assert code == 0, errors
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 3


def test_held_out_items_are_not_trained_on_and_stay_the_same(
    recipe: Path, pairs: Path, tmp_path: Path
) -> None:
    held = tmp_path / "held" / "pairs.jsonl"
    held.parent.mkdir()
    rows = []
    for index, line in enumerate(pairs.read_text().splitlines()):
        row = json.loads(line)
        image = Path(row["understand_ann"]["image_path"])
        Image.open(pairs.with_name(image.name)).save(held.with_name(image.name))
        rows.append(line.replace('"prompt": "a"', f'"prompt": "drawing {index}"'))
    held.write_text("\n".join(rows) + "\n")
    words = ["train", recipe, "--out", tmp_path / "run", "--evaluation.every=1", "--evaluation.pairs"]
    code, _, errors = call(*words, held, "--evaluation.items=2")
    assert code == 0, errors
    assert "0 of 3 pairs are not trained on" in errors
    config = (tmp_path / "run" / "config.toml").read_bytes()
    said = fails(*words, held, "--evaluation.items=3", "--pairgrpo.steps=3", "--resume")
    assert "was evaluated on 2 questions and 2 prompts at step 0, which are not the 3 and 3" in said
    assert (tmp_path / "run" / "config.toml").read_bytes() == config
    code, _, errors = call(*words, held, "--evaluation.items=2", "--pairgrpo.steps=3", "--resume")
    assert code == 0, errors
    said = fails(*words, pairs, "--out", tmp_path / "none")
    assert "holding out 3 pairs leaves none to train on" in said


def test_training_by_hpsv2(recipe: Path, tmp_path: Path) -> None:
    weights = tiny_hpsv2.weights(tiny_hpsv2.shapes())
    state = {name: torch.from_numpy(values) for name, values in weights.items()}
    torch.save({"state_dict": state}, tmp_path / "HPS_v2.1_compressed.pt")
    vocabulary = tiny_hpsv2.write_vocabulary(tmp_path / "bpe_simple_vocab_16e6.txt.gz")
    words = ["--reward.generation", "hpsv2", "--reward.hpsv2.device", "cpu", "--pairgrpo.steps", "1"]
    words += ["--reward.hpsv2.checkpoint", str(tmp_path / "HPS_v2.1_compressed.pt")]
    words += ["--reward.hpsv2.tokenizer", str(vocabulary)]
    code, _, errors = call("train", recipe, "--out", tmp_path / "run", *words)
    assert code == 0, errors
    metrics = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())
    assert -1 < metrics["generation/reward"] < 1
    assert metrics["generation/frac_reward_zero_std"] < 1
    assert 'version = "2.1"' in (tmp_path / "run" / "config.toml").read_text()


def test_training_by_composition(recipe: Path, pairs: Path, tmp_path: Path) -> None:
    words = ["--reward.generation", "composition", "--reward.composition.device", "cpu", "--pairgrpo.steps=1"]
    words += ["--reward.composition.detector", str(tiny_detectors.yolos(tmp_path / "yolos"))]
    words += ["--reward.composition.clip", str(tiny_detectors.clip(tmp_path / "clip"))]
    words += ["--reward.composition.threshold", "0.1"]
    for when in ("--dry-run", "--policy.model=nowhere"):
        said = fails("train", recipe, "--out", tmp_path / "none", *words, when)
        assert (
            "reward 'composition' needs 'include', which 3 of 3 records lack, the first of them 0.png" in said
        )
    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    for row in rows:
        row["generate_ann"]["include"] = [
            {"class": name, "count": 1, "color": "red"} for name in ("dog", "tv")
        ]
    asked = pairs.with_name("asked.jsonl")
    asked.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, _, errors = call("train", recipe, "--out", tmp_path / "run", "--data.pairs", asked, *words)
    assert code == 0, errors
    metrics = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())
    assert 0 <= metrics["generation/reward"] <= 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "2 of 1 pair, 0.667 epochs"),
        (("--pairgrpo.steps=1200", "--pairgrpo.epochs=2"), "6 of 1 pair, 2 epochs"),
        (
            ("--pairgrpo.steps=1200", "--pairgrpo.epochs=2", "--pairgrpo.tasks=alternating"),
            "12 of 1 pair, 2 epochs",
        ),
        (("--pairgrpo.steps=90", "--pairgrpo.warmup-share=0.1"), "90 of 1 pair, 30 epochs, 9 of warm-up"),
    ],
)
def test_dry_run_shows_the_number_of_steps(recipe: Path, words: tuple[str, ...], said: str) -> None:
    code, shown, errors = call("train", recipe, "--dry-run", *words)
    assert code == 0, errors
    assert f"{'steps':<20}{said}" in shown.splitlines()


def test_epochs_count_the_pairs_that_are_left_to_train_on(recipe: Path, tmp_path: Path) -> None:
    words = ("--pairgrpo.steps=1200", "--pairgrpo.epochs=2", "--data.budget=2")
    code, _, errors = call("train", recipe, "--out", tmp_path / "run", *words)
    assert code == 0, errors
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["steps"] == 4
    resumed = load_settings(RunSettings, tmp_path / "run" / "config.toml")
    assert (resumed.pairgrpo.steps, resumed.pairgrpo.epochs) == (1200, 2.0)
    assert "pairgrpo.steps is 2 and pairgrpo.epochs is 2" in fails("train", recipe, "--pairgrpo.epochs=2")


def test_dry_run_says_that_the_rewards_checkpoint_is_missing(recipe: Path, tmp_path: Path) -> None:
    words = ("--reward.generation", "hpsv2", "--reward.hpsv2.checkpoint", tmp_path / "HPS_v2.1_compressed.pt")
    code, said, errors = call("train", recipe, "--dry-run", *words)
    assert (code, said) == (1, "")
    assert "HPS_v2.1_compressed.pt: no such file or folder; set reward.hpsv2.checkpoint" in errors


@pytest.mark.parametrize(
    ("field", "text", "reason"),
    [
        ("understand_ann.question", "Is <image> a cat?", "contains <image>, which stands for an image"),
        (
            "understand_ann.question",
            "Is <image_placeholder> it?",
            "contains the special token <image_placeholder>",
        ),
        ("generate_ann.prompt", "a <begin_of_image> cat", "contains the special token <begin_of_image>"),
        ("generate_ann.prompt", "a <|im_end|> cat", "contains <|im_end|>, which resembles a special token"),
    ],
)
def test_dry_run_and_train_name_texts_that_a_run_cannot_use(
    recipe: Path, pairs: Path, tmp_path: Path, field: str, text: str, reason: str
) -> None:
    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    side, name = field.split(".")
    rows[1][side][name] = text
    spoiled = pairs.with_name("spoiled.jsonl")
    spoiled.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for words in (("--dry-run",), ("--out", tmp_path / "run")):
        said = fails("train", recipe, "--data.pairs", spoiled, *words)
        assert f"{spoiled}, line 2, field {field}: {text!r} {reason}" in said
    code, said, _ = call("pairs", "check", spoiled)
    assert code == 1
    assert f"line 2, field {field}: contains <" in said


def test_dry_run_trains_nothing(recipe: Path, tmp_path: Path) -> None:
    words = ("--dry-run", "--out", tmp_path / "run", "--pairgrpo.beta=0.1")
    code, said, errors = call(
        "train", recipe, *words, "--reward.generation", "user_folder:Brightness + test_train_command:Scored"
    )
    assert code == 0, errors
    assert not (tmp_path / "run").exists()
    for words in (
        "beta = 0.1",
        "parameters",
        "  trained",
        "memory, estimated",
        "reference",
        "tokens a step",
        "reward models       2 MiB of weights on cpu",
    ):
        assert words in said
    # 1 pair x (2 answers x 3 tokens + 2 images x 16 tokens)
    assert "at most 38 sampled" in said


def test_the_disk_of_a_plan_is_that_of_a_run(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    rewards = ("--reward.understanding=user_folder:Letters", "--seed=1")  # both tasks have gradients
    words = ("--checkpoint.every=1", "--checkpoint.keep=2", "--policy.trainable=language_model", *rewards)
    code, _, errors = call("train", recipe, *words, "--out", out)
    assert code == 0, errors
    settings = load_settings(RunSettings, recipe, words)
    policy = load_for_run(settings.policy, weights=False)
    plan = plan_run(settings, policy, torch.float32)
    checkpoint, model = disk_bytes(settings, plan, torch.float32)

    def size(folder: Path) -> int:
        return sum(path.stat().st_size for path in folder.glob("*.safetensors"))

    *_, newest = sorted((out / "checkpoints").glob("step-*"))
    assert size(newest) == pytest.approx(checkpoint, rel=0.05, abs=2e4)
    assert size(out / "final") == pytest.approx(model, rel=0.05, abs=2e4)
    said = call("train", recipe, *words, "--dry-run")[1]
    assert (
        f"{size_in_words(3 * checkpoint + model)}: 3 checkpoints of {size_in_words(checkpoint)}, and" in said
    )


def test_dry_run_needs_no_weights(user: UserFolder, recipe: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(user.model, bare, ignore=shutil.ignore_patterns("*.safetensors"))
    code, said, errors = call("train", recipe, "--dry-run", f"--policy.model={bare}")
    assert code == 0, errors
    complete = call("train", recipe, "--dry-run")[1]
    rows = [
        line for line in said.splitlines() if line.startswith(("parameters", "memory", "24 GB", "one GPU"))
    ]
    assert all(row in complete.splitlines() for row in rows)
    assert len(rows) == 3
    assert "one GPU, estimated  24 GB (RTX 4090): fits, about" in said
    assert "has no weights" in fails("train", recipe, f"--policy.model={bare}", "--out", tmp_path / "run")


def test_dry_run_for_several_gpus(recipe: Path, tmp_path: Path) -> None:
    words = ("--dry-run", "--gpus", "2", "--pairgrpo.pairs-per-batch", "2")
    code, said, errors = call("train", recipe, *words)
    assert code == 0, errors
    lines = said.splitlines()
    for card in ("H100 80GB", "A100 80GB", "A100 40GB", "RTX 4090 24GB"):
        assert any(line.startswith(f"2 x {card}") and "fits: " in line for line in lines)
    assert said.count("replicate: everything fits on each device") == 4
    assert said.count("communication") == 4
    assert "Nothing was measured on these GPUs" in said
    assert "one GPU, estimated" not in said
    said = fails("train", recipe, "--dry-run", "--gpus", "3", "--pairgrpo.pairs-per-batch", "2")
    assert (
        "3 processes cannot share 2 pairs per step; plan for fewer, or raise pairgrpo.pairs_per_batch" in said
    )
    said = fails("train", recipe, *words, "--distributed.shard-size", "3", "--distributed.strategy", "shard")
    assert "distributed.shard_size is 3, but must divide the number of processes, 2" in said
    assert "add --dry-run" in fails("train", recipe, "--gpus", "2", code=2)


def test_cards_that_hold_a_run() -> None:
    plan = Plan(
        parameters=7 * 10**9,
        trained=6 * 10**9,
        weights=14 * 10**9,
        gradients=0,
        optimizer=0,
        reference=0,
        activations=2 * 10**10,
        rollout_cache=10**9,
        sampled_tokens=0,
        replayed_tokens=0,
        decoded_bytes=3.35e12,
        operations=989e12,
    )
    said = describe_cards(plan, torch.bfloat16, 0).splitlines()
    assert [("does not fit" in row) for row in said] == [True, False, False, False, False]
    assert said[3].endswith("80 GB (H100): fits, about 4.9 s a step without rewards")
    said = describe_cards(plan, torch.bfloat16, 12 * 10**9).splitlines()
    assert [("does not fit" in row) for row in said] == [True, True, True, False, False]


def test_train_mistakes(recipe: Path, tmp_path: Path) -> None:
    assert "no such recipe" in fails("train", tmp_path / "none.toml")
    assert "no such pair file" in fails("train", recipe, "--data.pairs", tmp_path / "none.jsonl")
    assert "no generation reward is called 'hps'" in fails("train", recipe, "--reward.generation", "hps")
    assert "no part no_such_part" in fails(
        "train", recipe, "--policy.trainable=no_such_part", "--out", tmp_path / "r"
    )
    assert "give the recipe before" in fails("train", "--pairgrpo.steps", "3", recipe, code=2)
    fails("train", code=2)
    assert "--logging.to is 'tensorbord', but must be one of" in fails(
        "train", recipe, "--logging.to", "tensorbord"
    )
    (tmp_path / "notes").write_text("mine")
    assert f"{tmp_path / 'notes'} is a file, not a folder" in fails(
        "train", recipe, "--out", tmp_path / "notes"
    )
    assert call("train", "-h") == call("train", "--help")


def test_ctrl_c_ends_a_process_with_130(recipe: Path, tmp_path: Path) -> None:
    here = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = {**os.environ, "PYTHONPATH": here, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", "from pairuni.cli.app import main; main()"]
    out = tmp_path / "run"
    words = ["train", str(recipe), "--pairgrpo.steps", "100000", "--out", str(out)]
    with subprocess.Popen([*command, *words], stderr=subprocess.PIPE, text=True, env=environment) as running:
        metrics = out / "metrics.jsonl"
        while not metrics.exists() and running.poll() is None:
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=120)
    assert running.returncode == 130, errors
    assert "--resume continues" in errors
    assert "Traceback" not in errors
    assert list((out / "checkpoints").iterdir())

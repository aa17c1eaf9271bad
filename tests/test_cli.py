import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import tiny_detectors
from fake_run import write_fake_run
from pairuni import __version__
from pairuni.cli.app import app
from pairuni.cli.plan import describe_cards
from pairuni.config import RunSettings, load_settings
from pairuni.pairgrpo.plan import Plan
from pairuni.records import Annotation, GenerationSample, Quadruple, UnderstandingSample, Verdict
from reference import tiny_hpsv2
from tiny_models import save_tiny_janus


class Redness:
    """An image's reward for these tests: how red it is."""

    name = "redness"

    def __call__(self, records: Sequence[Annotation], samples: Sequence[Image.Image]) -> list[float]:
        return [sum(p for p in sample.resize((1, 1)).getpixel((0, 0))[:1]) / 255 for sample in samples]


class Scored(Redness):
    """One that holds a model."""

    name = "scored"

    def __init__(self) -> None:
        self.models = (torch.nn.Linear(1024, 512, bias=False),)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_janus(tmp_path_factory.mktemp("models") / "janus")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    folder = tmp_path / "pairug"
    folder.mkdir()
    lines = []
    for index in range(4):
        Image.new("RGB", (16, 16), (60 * index, 20, 200)).save(folder / f"{index}.png")
        side = {
            "image_path": f"{index}.png",
            "prompt": "a",
            "question": "b? A. x B. y",
            "answer": "A",
            "tag": "",
        }
        lines.append(json.dumps({"similarity": 1.0, "understand_ann": side, "generate_ann": side}) + "\n")
    path = folder / "pairs.jsonl"
    path.write_text("".join(lines))
    return path


@pytest.fixture
def recipe(tmp_path: Path, pairs: Path, model: Path) -> Path:
    path = tmp_path / "quick.toml"
    path.write_text(
        f"""
        [policy]
        model = {str(model)!r}
        device = "cpu"
        [data]
        pairs = {str(pairs)!r}
        [rollout]
        understanding = 2
        generation = 2
        guidance = 2.0
        max_new_tokens = 4
        [reward]
        generation = "test_cli:Redness"
        [pairgrpo]
        steps = 2
        learning_rate = 1e-3
        [logging]
        samples_every = 1
        """
    )
    return path


def call(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def fails(*words: object, code: int = 1) -> str:
    found, _, said = call(*words)
    assert found == code, said
    assert "Traceback" not in said
    return said


def test_help_names_every_command() -> None:
    code, said, _ = call("--help")
    assert code == 0
    for command in ("demo", "pairs", "train", "eval", "draw", "answer", "convert", "report", "env"):
        assert f"  {command} " in said
    assert call("--version")[1] == f"pairuni {__version__}\n"


def test_help_imports_little() -> None:
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from pairuni.cli.app import app\n"
        "for words in (['--help'], ['train', '--help']):\n"
        "    assert CliRunner().invoke(app, words).exit_code == 0\n"
        "print(*sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.split())
    heavy = {"torch", "transformers", "sklearn", "scipy", "numpy", "PIL", "pyarrow", "httpx2", "rich"}
    assert not heavy & imported
    assert len(imported) < 400, "pydantic, typer and the standard library take about 280"


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
    assert "The pairs" in (out / "report.html").read_text()

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
        picture = Path(row["understand_ann"]["image_path"])
        Image.open(pairs.with_name(picture.name)).save(held.with_name(picture.name))
        rows.append(line.replace('"prompt": "a"', f'"prompt": "drawing {index}"'))
    held.write_text("\n".join(rows) + "\n")
    words = ["train", recipe, "--out", tmp_path / "run", "--evaluation.every=1", "--evaluation.pairs"]
    code, _, errors = call(*words, held, "--evaluation.items=2")
    assert code == 0, errors
    assert "0 of 4 pairs are not trained on" in errors
    config = (tmp_path / "run" / "config.toml").read_bytes()
    said = fails(*words, held, "--evaluation.items=3", "--pairgrpo.steps=3", "--resume")
    assert "was evaluated on 2 questions and 2 prompts at step 0, which are not the 3 and 3" in said
    assert (tmp_path / "run" / "config.toml").read_bytes() == config
    code, _, errors = call(*words, held, "--evaluation.items=2", "--pairgrpo.steps=3", "--resume")
    assert code == 0, errors
    said = fails(*words, pairs, "--out", tmp_path / "none")
    assert "holding out 4 pairs leaves none to train on" in said


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
            "reward 'composition' needs 'include', which 4 of 4 records lack, the first of them 0.png" in said
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
        ("generate_ann.prompt", "a <|im_end|> cat", "contains <|im_end|>, which looks like a special token"),
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
    code, said, errors = call("train", recipe, *words, "--reward.generation", "digits + test_cli:Scored")
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
    # 2 pairs x (2 answers x 4 tokens + 2 images x 16 tokens)
    assert "at most 80 sampled" in said


def test_dry_run_needs_no_weights(recipe: Path, model: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(model, bare, ignore=shutil.ignore_patterns("*.safetensors"))
    code, said, errors = call("train", recipe, "--dry-run", f"--policy.model={bare}")
    assert code == 0, errors
    whole = call("train", recipe, "--dry-run")[1]
    rows = [
        line for line in said.splitlines() if line.startswith(("parameters", "memory", "24 GB", "one GPU"))
    ]
    assert all(row in whole.splitlines() for row in rows)
    assert len(rows) == 3
    assert "one GPU, estimated  24 GB (RTX 4090): fits, about" in said
    assert "has no weights" in fails("train", recipe, f"--policy.model={bare}", "--out", tmp_path / "run")


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


def test_train_mistakes(recipe: Path, pairs: Path, tmp_path: Path) -> None:
    assert "did you mean --pairgrpo.steps?" in fails("train", recipe, "--pairgrpo.stesp", "3")
    assert "no such recipe" in fails("train", tmp_path / "none.toml")
    assert "no such pair file" in fails("train", recipe, "--data.pairs", tmp_path / "none.jsonl")
    assert "no generation reward is called 'hps'" in fails("train", recipe, "--reward.generation", "hps")
    assert "no part no_such_part" in fails(
        "train", recipe, "--policy.trainable=no_such_part", "--out", tmp_path / "r"
    )
    assert "give the recipe before" in fails("train", "--pairgrpo.steps", "3", recipe, code=2)
    fails("train", code=2)
    pairs.write_text(pairs.read_text()[:300])
    said = fails("train", recipe, "--out", tmp_path / "r2")
    assert "pairs.jsonl, line 2" in said
    assert said.startswith("error: ")


def test_pairs_check_and_stats(pairs: Path) -> None:
    code, said, _ = call("pairs", "check", pairs)
    assert (code, said) == (0, f"{pairs}: no problems\n")
    assert json.loads(call("pairs", "stats", pairs)[1])["kinds"] == {"aligned": 4}
    (pairs.parent / "2.png").write_bytes((pairs.parent / "2.png").read_bytes()[:50])
    pairs.write_text(pairs.read_text() + '{"similarity"\n')
    code, said, errors = call("pairs", "check", pairs)
    assert code == 1
    assert "3 problems" in errors  # both sides of the broken image, and the broken line
    assert "line 3" in said
    assert "line 5" in said


def test_pairs_build(model: Path, tmp_path: Path) -> None:
    for name, extra in (("u", {"question": "what?", "answer": "one"}), ("g", {"prompt": "one"})):
        rows = []
        for index in range(6):
            Image.new("RGB", (16, 16), (40 * index, 90, 30 if name == "u" else 50)).save(
                tmp_path / f"{name}{index}.png"
            )
            row = {"id": f"{name}{index}", "image_path": f"{name}{index}.png", "scene": "a red one", **extra}
            rows.append(json.dumps(row) + "\n")
        (tmp_path / f"{name}.jsonl").write_text("".join(rows))
    words = [
        "--understanding",
        tmp_path / "u.jsonl",
        "--generation",
        tmp_path / "g.jsonl",
        "--out",
        tmp_path / "out",
    ]
    words += [
        "--encoder",
        f"policy:{model}",
        "--annotator",
        "test_cli:Echo",
        "--threshold",
        "0.1",
        "--clusters",
        "2",
    ]
    code, said, errors = call("pairs", "build", *words)
    assert code == 0, errors
    assert "12 samples, 12 completed, 0 dropped" in said
    assert call("pairs", "check", tmp_path / "out" / "pairs.jsonl")[0] == 0
    assert "--threshold is 1.7, but must be less than or equal to 1" in fails(
        "pairs", "build", *words, "--threshold=1.7"
    )
    assert "no such file or folder of raw samples" in fails(
        "pairs", "build", *words, "--generation", tmp_path / "none"
    )


class Echo:
    """An annotator for these tests: says the same of every sample, and is content."""

    def caption(self, sample: UnderstandingSample, feedback: str | None) -> str:
        return "one"

    def question(self, sample: GenerationSample, feedback: str | None) -> tuple[str, str]:
        return "what?", "one"

    def verify(self, quadruple: Quadruple) -> Verdict:
        return Verdict(ok=True)


def test_draw_and_answer(model: Path, tmp_path: Path) -> None:
    code, said, errors = call(
        "draw", "a cat", "--model", model, "--out", tmp_path / "cat.png", "-n", 2, "--guidance", 2
    )
    assert code == 0, errors
    assert said.split() == [str(tmp_path / "cat-1.png"), str(tmp_path / "cat-2.png")]
    first = (tmp_path / "cat-1.png").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cat-1.png", "cat-2.png"]
    call("draw", "a cat", "--model", model, "--out", tmp_path / "cat-1.png", "--guidance", 2)
    assert (tmp_path / "cat-1.png").read_bytes() == first  # the same seed draws the same image
    code, _, errors = call("answer", tmp_path / "cat-1.png", "what?", "--model", model, "--max-new-tokens", 3)
    assert code == 0, errors
    assert "no such image" in fails("answer", tmp_path / "none.png", "what?", "--model", model)
    (tmp_path / "cut.png").write_bytes(first[:60])
    assert "cut.png: not an image" in fails("answer", tmp_path / "cut.png", "what?", "--model", model)
    assert "not an image's name" in fails("draw", "a cat", "--model", model, "--out", tmp_path / "cat.txt")
    assert "no folder" in fails("draw", "a cat", "--model", tmp_path / "none", "--out", tmp_path / "x.png")
    fails("draw", "a cat", "--out", tmp_path / "x.png", "--guidance", "0.5", code=2)


def test_convert_there_and_back(model: Path, tmp_path: Path) -> None:
    code, said, errors = call("convert", model, tmp_path / "original", "--layout", "original")
    assert code == 0, errors
    assert "transformers to original layout" in said
    assert call("convert", tmp_path / "original", tmp_path / "back", "--layout", "transformers")[0] == 0
    assert "already has the" in fails("convert", model, tmp_path / "x", "--layout", "transformers")
    fails("convert", model, tmp_path / "x", "--layout", "gguf", code=2)


def test_report_and_env(tmp_path: Path) -> None:
    run = write_fake_run(tmp_path / "run", steps=2, items=2, pairs=2)
    assert call("report", run)[1] == f"report: {run / 'report.html'}\n"
    assert fails("report", tmp_path / "none") == f"error: {tmp_path / 'none'}: no such run folder\n"
    said = call("env")[1]
    assert f"pairuni       {__version__}" in said
    assert "torch" in said


def test_traceback_on_demand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError):
        call("report", tmp_path / "none", "--traceback")
    monkeypatch.setenv("PAIRUNI_TRACEBACK", "1")
    with pytest.raises(FileNotFoundError):
        call("report", tmp_path / "none")


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

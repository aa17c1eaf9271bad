"""Models on the hub: what is pushed, by the hub's own client to a hub on this machine, and how others load it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from commands import call, fails
from fake_hub import READS, WRITES, FakeHub, Repository, use_hub
from fake_run import write_fake_run
from pairuni.digits.scenes import Scene, Thing, render_image
from pairuni.evaluation.result import Result
from pairuni.intervals import bootstrap_interval, wilson_interval
from pairuni.io.markdown import split_front_matter
from pairuni.policies import load_policy
from pairuni.policies.registry import resolve
from pairuni.runs.models import load_model
from pairuni.sharing.card import MARK, QUESTION
from user_folder import UserFolder, contents

MODEL = "models/me/digits"
LETTERS = ("--reward.understanding=user_folder:Letters", "--rollout.understanding=4")
"""A reward that differs between answers, so that the model changes."""
SECRET = "sk-0123456789abcdef"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub() as server:
        use_hub(server, monkeypatch)
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the shipped model, with files that are nobody else's business."""
    run = write_fake_run(tmp_path_factory.mktemp("private") / "run", steps=4, items=20, pairs=12)
    shutil.copytree(resolve("tiny"), run / "final", ignore=shutil.ignore_patterns("README.md"))
    config = (run / "config.toml").read_text()
    url = f"http://me:{SECRET}@10.0.0.7:8000/v1"
    config = config.replace(
        "[reward.judge]", f'[reward.judge]\nrubric = "{run}/rubric.txt"\nbase_url = "{url}"'
    )
    assert url in config
    (run / "config.toml").write_text(
        config.replace('generation = "hpsv2"', 'generation = "my_rewards:Redness"')
    )
    for name in ("optimizer.safetensors", "state.json"):
        place = run / "checkpoints" / "step-000004" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("{}")
    (run / "final" / "optimizer.pt").write_text("moments")
    (run / "final" / ".cache").mkdir()
    (run / "final" / ".cache" / "notes.json").write_text("{}")
    return run


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> UserFolder:
    """A run of two steps with a checkpoint of each."""
    user = UserFolder(tmp_path_factory.mktemp("trained"))
    code, _, errors = call(*user.train("--checkpoint.keep=2", *LETTERS))
    assert code == 0, errors
    return user


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> UserFolder:
    """A run that trained an adapter."""
    user = UserFolder(tmp_path_factory.mktemp("adapted"))
    code, _, errors = call(*user.train("--policy.lora.rank=2", "--pairgrpo.steps=1", *LETTERS))
    assert code == 0, errors
    return user


def card_of(files: dict[str, bytes]) -> str:
    return files["README.md"].decode()


def python_of(card: str) -> str:
    (code,) = re.findall(r"^```python\n(.*?)^```", card, re.S | re.M)
    return code


def elsewhere(code: str, hub: FakeHub, folder: Path) -> str:
    """The output of code in a process of another user, in a folder with image.png."""
    scene = Scene.of([Thing("top left", 3, "blue"), Thing("bottom right", 8, "red")])
    folder.mkdir()
    render_image(scene, np.random.default_rng(0)).save(folder / "image.png")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    own = {"HF_HOME": str(folder / "home"), "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1"}
    words = [sys.executable, "-c", code]
    done = subprocess.run(
        words, cwd=folder, env={**inherited, **own}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


HERE = """
assert "pairuni" not in sys.modules
from pairuni.runs.models import load_model
for name, dtype in (("me/digits", "bfloat16"), ("me/adapter", "float32")):
    print(load_model(name, device="cpu", dtype=dtype).answer(Image.open("image.png"), {question!r}, max_new_tokens=6))
"""


def test_the_code_of_cards_runs_in_plain_transformers_and_peft(
    run: Path, adapted: UserFolder, hub: FakeHub, tmp_path: Path
) -> None:
    """In another process that downloads what was pushed; pairuni gives the same answers by the hub's names."""
    hub.repositories["models/me/base"] = Repository(branches={"main": contents(adapted.model)})
    assert call("push", run, "me/digits")[0] == 0
    assert call("push", adapted.root / "run", "me/adapter", "--base", "me/base")[0] == 0
    cards = [card_of(hub.files(f"models/{name}")) for name in ("me/digits", "me/adapter")]
    code = "".join(python_of(card).replace("max_new_tokens=64", "max_new_tokens=6") for card in cards)
    said = elsewhere("import sys\n" + code + HERE.format(question=QUESTION), hub, tmp_path / "elsewhere")
    full, adapter, *ours = (line.strip() for line in said.rstrip("\n").split("\n"))
    assert [full, adapter] == ours
    assert full


def test_what_is_pushed_is_what_out_shows(run: Path, hub: FakeHub, tmp_path: Path) -> None:
    before = contents(run)
    code, said, errors = call("push", run, "me/digits", "--out", tmp_path / "shared")
    assert code == 0, errors
    shared = contents(tmp_path / "shared")
    assert said.startswith(f"{tmp_path / 'shared'}: {len(shared)} files, ")
    assert not hub.requests, "--out sends nothing"
    assert call("push", run, "me/digits")[:2] == (0, f"{hub.url}/me/digits\n")
    assert hub.files(MODEL) == shared
    assert contents(run) == before, "nothing is left in the run's folder"

    weights = {"config.json", "generation_config.json", "model.safetensors", "chat_template.jinja"}
    processor = {"processor_config.json", "tokenizer.json", "tokenizer_config.json"}
    samples = {f"samples/{number}.png" for number in range(8)}
    assert set(shared) == weights | processor | samples | {"README.md", "recipe.toml", "data-card.md"}
    assert shared["model.safetensors"] == before["final/model.safetensors"]


def test_nothing_private_is_pushed(run: Path, hub: FakeHub, tmp_path: Path) -> None:
    assert call("push", run, "me/digits")[0] == 0
    pushed = hub.files(MODEL)
    private = [str(tmp_path), str(Path.home()) + "/", SECRET, "10.0.0.7", WRITES, "checkpoints/", "http://me"]
    for name, data in pushed.items():
        if name not in ("model.safetensors", "tokenizer.json") and not name.endswith(".png"):
            found = [one for one in private if one in data.decode()]
            assert not found, f"{name} holds {found}"
    own_images = {path.read_bytes() for path in (run / "pairug" / "images").iterdir()}
    assert not own_images & set(pushed.values())
    recipe = tomllib.loads(pushed["recipe.toml"].decode())
    assert recipe["data"]["pairs"] == "pairs.jsonl"
    assert recipe["reward"]["judge"]["rubric"] == "rubric.txt"
    assert "base_url" not in recipe["reward"]["judge"]
    assert recipe["reward"]["generation"] == "my_rewards:Redness"


def test_the_card_has_base_data_scores_and_limits(run: Path, tmp_path: Path) -> None:
    result = Result(
        benchmark="POPE",
        protocol="official F1",
        score=84.25,
        unit="% F1",
        interval=(82.5, 86.0),
        parts={},
        counts={"all": 9000},
    )
    result.write(tmp_path / "pope.json")
    words = ("--result", tmp_path / "pope.json", "--data", "me/pairs", "--license", "mit", "--no-samples")
    code, _, errors = call("push", run, "me/digits", "--out", tmp_path / "shared", *words)
    assert code == 0, errors
    card = (tmp_path / "shared" / "README.md").read_text()
    front, text = split_front_matter(card)
    assert "license: mit\n" in front
    assert "datasets:\n- me/pairs\n" in front
    assert "library_name: transformers\n" in front
    assert "base_model" not in front, "the shipped model is not on the hub"
    after = json.loads((run / "evaluation" / "after.json").read_text())
    for task in ("understanding", "generation"):
        score = after[task]["score"]
        low, high = (100 * one for one in wilson_interval(score, 20))
        assert f"| {100 * score:.2f} | {low:.2f} to {high:.2f} | % |" in text
    assert "| POPE | official F1 | 84.25 | 82.50 to 86.00 | % F1 |  | 9,000 |" in text
    assert "Base model: tiny, the model that pairuni contains" in text
    assert "[me/pairs](https://huggingface.co/datasets/me/pairs)" in text
    assert "12 understanding-generation pairs (8 retrieved, 4 aligned)" in text
    assert "| reward of images | my\\_rewards:Redness |" in text
    assert "## Limits" in text
    assert not (tmp_path / "shared" / "samples").exists()
    assert "## Samples" not in text
    assert "12 understanding-generation pairs" in (tmp_path / "shared" / "data-card.md").read_text()


def test_a_push_can_be_repeated_and_replaces_what_is_stale(run: Path, hub: FakeHub) -> None:
    hub.uploads_left = 3
    said = fails("push", run, "me/digits")
    assert "the push to me/digits failed: " in said
    assert said.strip().endswith("the same command repeats it")
    assert not [path for path in run.iterdir() if path.name.startswith(".")]
    hub.uploads_left = None
    assert call("push", run, "me/digits")[0] == 0
    assert len(hub.uploads) == len(set(hub.uploads)) == 9, "no file is sent twice"
    pushed, commits = dict(hub.files(MODEL)), list(hub.repositories[MODEL].commits)
    assert call("push", run, "me/digits")[0] == 0
    assert (hub.files(MODEL), hub.repositories[MODEL].commits) == (pushed, commits)

    weights = run / "final" / "model.safetensors"
    weights.rename(weights.with_name("model-00001-of-00001.safetensors"))
    assert call("push", run, "me/digits", "--no-samples")[0] == 0
    stale = {"model.safetensors", *(name for name in pushed if name.startswith("samples/"))}
    assert set(hub.files(MODEL)) == set(pushed) - stale | {"model-00001-of-00001.safetensors"}


def test_what_belongs_to_others_stays(run: Path, hub: FakeHub) -> None:
    foreign = {"model.safetensors": b"mine", "README.md": b"---\ntags:\n- other\n---\n"}
    hub.repositories["models/me/foreign"] = Repository(branches={"main": dict(foreign)})
    said = fails("push", run, "me/foreign")
    assert "the model me/foreign exists and was not pushed by pairuni" in said
    assert hub.files("models/me/foreign") == foreign

    hub.repositories["models/me/empty"] = Repository(branches={"main": {".gitattributes": b""}})
    assert "is public; make it private" in fails("push", run, "me/empty", "--private")
    assert call("push", run, "me/empty", "--no-samples")[0] == 0
    assert MARK in card_of(hub.files("models/me/empty"))

    card = card_of(hub.files("models/me/empty")).replace(MARK, "") + "\nOur own words.\n"
    hub.files("models/me/empty")["README.md"] = card.encode()
    (run / "final" / "generation_config.json").write_text("{}")
    assert call("push", run, "me/empty", "--no-samples")[0] == 0
    assert card_of(hub.files("models/me/empty")) == card
    assert hub.files("models/me/empty")["generation_config.json"] == b"{}"


def test_a_private_model_on_a_branch(run: Path, hub: FakeHub) -> None:
    code, said, errors = call("push", run, "me/digits", "--private", "--revision", "step-4", "--no-samples")
    assert (code, said) == (0, f"{hub.url}/me/digits/tree/step-4\n"), errors
    assert hub.repositories[MODEL].private
    assert not hub.files(MODEL)
    card = card_of(hub.files(MODEL, "step-4"))
    assert '.from_pretrained("me/digits", revision="step-4")' in card
    assert "hf download me/digits --revision step-4" in card


def test_who_may_not_push_is_told_so(run: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("digits", "me/digits/more", "me/..", "me/a b", "/tmp/x", "me/x.git"):
        assert "is not a hub name; give OWNER/NAME" in fails("push", run, name)
    use_hub(hub, monkeypatch, token=None)
    assert "no access token for the hub: run hf auth login, or set HF_TOKEN" in fails(
        "push", run, "me/digits"
    )
    use_hub(hub, monkeypatch, token="hf_expired")
    assert "the hub does not accept the access token" in fails("push", run, "me/digits")
    use_hub(hub, monkeypatch, token=READS)
    assert "the access token may not write to me; check its rights" in fails("push", run, "me/digits")
    assert not hub.repositories
    use_hub(hub, monkeypatch)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    said = fails("push", run, "me/digits")
    assert "the push to me/digits failed: the hub cannot be reached (" in said
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE is set, so nothing can be pushed" in fails("push", run, "me/digits")


def test_an_unfinished_run_is_pushed_only_if_told(trained: UserFolder, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained.root / "run", tmp_path / "run"))
    (run / "summary.json").unlink()
    shutil.rmtree(run / "final")
    out = ("--out", tmp_path / "shared")
    assert f"{run} is not finished, step 2; resume it, or push" in fails("push", run, "me/x", *out)
    assert not (tmp_path / "shared").exists()
    assert call("push", run, "me/x", *out, "--unfinished")[0] == 0
    trained_weights = load_file(trained.root / "run" / "final" / "model.safetensors")
    pushed = load_file(tmp_path / "shared" / "model.safetensors")
    assert all(torch.equal(pushed[name], weight) for name, weight in trained_weights.items())
    assert "after 2 steps" in (tmp_path / "shared" / "README.md").read_text()
    assert "already exists; give another --out" in fails("push", run, "me/x", *out, "--unfinished")
    assert "no such run folder" in fails("push", tmp_path / "none", "me/x", "--out", tmp_path / "no")
    shutil.rmtree(run / "checkpoints")
    again = ("--out", tmp_path / "again", "--unfinished")
    assert "has neither a trained model in final/ nor a checkpoint" in fails("push", run, "me/x", *again)


def test_a_checkpoint_and_the_best_one(trained: UserFolder, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained.root / "run", tmp_path / "run"))
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    lines = [json.dumps({**row, "eval/understanding": 1 / row["step"]}) + "\n" for row in rows if row["step"]]
    (run / "metrics.jsonl").write_text("".join(lines))
    rewards = [0.25, 0.5, 0.75]
    items = [
        {"prompt": f"<{number}>", "question": "q|?", "reward": one} for number, one in enumerate(rewards)
    ]
    (run / "evaluation").mkdir(exist_ok=True)
    for step, score in ((0, 0.125), (1, 0.5)):
        task = {"score": score, "items": items}
        text = json.dumps({"step": step, "understanding": task, "generation": task})
        (run / "evaluation" / f"step-{step:06d}.json").write_text(text)

    first = run / "checkpoints" / "step-000001"
    for name, out in ((f"{run}@best", tmp_path / "best"), (first, tmp_path / "first")):
        code, _, errors = call("push", name, "me/x", "--out", out)
        assert code == 0, errors
    assert "chosen among 2 by its held-out scores" in (tmp_path / "best" / "README.md").read_text()
    card = (tmp_path / "first" / "README.md").read_text()
    assert "chosen among" not in card
    interval = bootstrap_interval([rewards], lambda means: means[0])
    assert interval is not None
    low, high = interval
    assert f"| 0.5000 | {low:.4f} to {high:.4f} | mean reward | 0.1250 | 3 |" in card
    assert "mean reward (user\\_folder:Brightness) on pairs that were not trained on" in card
    assert "| q\\|? |" in card

    exported = contents(tmp_path / "first")
    assert not [name for name in exported if "optimizer" in name or "random" in name or name == "state.json"]
    ours, theirs = load_model(first), load_policy(tmp_path / "first", device="cpu")
    states = (ours.module.state_dict(), theirs.module.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert Path(tmp_path / "first" / "config.json").read_text().find(str(tmp_path)) == -1


def test_a_base_in_a_relative_folder_is_never_taken_for_one_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = UserFolder(tmp_path / "user")
    user.recipe.write_text(user.recipe.read_text().replace(str(user.model), "models/own"))
    (user.root / "models").mkdir()
    user.model.rename(user.root / "models" / "own")
    monkeypatch.chdir(user.root)
    for out, words in (("runs/first", ()), ("runs/second", ("--policy.model=runs/first",))):
        code, _, errors = call("train", "recipe.toml", "--out", out, "--pairgrpo.steps=1", *words)
        assert code == 0, errors
    monkeypatch.chdir(tmp_path)
    for run in ("first", "first/checkpoints/step-000001", "second"):
        out = tmp_path / run.replace("/", "-")
        code, _, errors = call("push", f"user/runs/{run}", "me/digits", "--out", out)
        assert code == 0, errors
        front, text = split_front_matter((out / "README.md").read_text())
        assert "base_model" not in front
        assert "Base model: own." in text
        assert "huggingface.co/models/own" not in text


def test_an_adapter_names_its_base_or_is_merged(adapted: UserFolder, hub: FakeHub, tmp_path: Path) -> None:
    run, shared = adapted.root / "run", tmp_path / "shared"
    said = fails("push", run, "me/adapter", "--out", shared)
    assert "the adapter needs its base model, model, which others cannot load: give its hub name" in said
    hub.repositories["models/me/base"] = Repository(branches={"main": contents(adapted.model)})
    code, _, errors = call("push", run, "me/adapter", "--base", "me/base")
    assert code == 0, errors
    pushed = hub.files("models/me/adapter")
    assert {name for name in pushed if "/" not in name} == {
        *("README.md", "recipe.toml", "data-card.md", "adapter_config.json", "adapter_model.safetensors")
    }
    assert json.loads(pushed["adapter_config.json"])["base_model_name_or_path"] == "me/base"
    assert str(adapted.root) not in b"".join(pushed.values()).decode(errors="replace")
    front, _ = split_front_matter(card_of(pushed))
    assert "base_model: me/base\n" in front
    assert "base_model_relation: adapter\n" in front
    assert "library_name: peft\n" in front
    assert tomllib.loads(pushed["recipe.toml"].decode())["policy"]["model"] == "me/base"

    code, _, errors = call("push", run, "me/merged", "--merge", "--out", shared)
    assert code == 0, errors
    merged, expected = load_policy(shared, device="cpu"), load_model(run, device="cpu")
    states = (merged.module.state_dict(), expected.inference_module.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert "nothing to merge; leave out --merge" in fails(
        "push",
        adapted.model.parent / "run" / "checkpoints" / "step-000001",
        "me/x",
        "--merge",
        "--out",
        tmp_path / "no",
    )

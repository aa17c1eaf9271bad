"""The files of docs/extending.md, taken from the page and run: together they make a complete run."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from pairuni.cli.app import app
from pairuni.pairug.dataset.store import read_pairs
from pairuni.policies.registry import POLICIES, load_policy
from pairuni.policies.requests import ImageSampling, TextSampling
from pairuni.records import Annotation
from pairuni.rewards.registry import image_reward, text_reward
from pairuni.runs.metrics import MetricsLog

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
FILES = {
    match["name"]: match["text"]
    for match in re.finditer(
        r"^```(?:python|toml)\n(?P<text># (?P<name>[\w.]+)\n.*?)^```", PAGE.read_text(), re.S | re.M
    )
}
MODULES = [name.removesuffix(".py") for name in FILES if name.endswith(".py")]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that holds the page's files, is worked in and imported from."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("pairuni.policies.registry.POLICIES", dict(POLICIES))
    yield tmp_path
    for module in MODULES:
        sys.modules.pop(module, None)


def module(name: str) -> ModuleType:
    return __import__(name)


@pytest.fixture
def raw(here: Path) -> tuple[Path, Path]:
    """Six questions and six captions about plain images, three colours of each."""
    colours = ["red", "lime", "blue"]
    understanding, generation = here / "u", here / "g"
    rows = []
    for folder in (understanding, generation):
        folder.mkdir()
        for index in range(6):
            shade = Image.new("RGB", (16, 16), colours[index % 3])
            shade.putpixel((0, 0), (40 * index, 90, 90 if folder == generation else 70))
            shade.save(folder / f"{index}.png")
            (folder / f"{index}.txt").write_text(f"{index + 1} {colours[index % 3]} square")
    for index in range(6):
        objects = {f"{colours[index % 3]} square": index + 1}
        row = {
            "id": f"u{index}",
            "image_path": f"{index}.png",
            "question": "how many?",
            "answer": str(index + 1),
        }
        rows.append({**row, "objects": objects})
    (understanding / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    written: Path = module("captions_folder").write_generation(generation)
    lines = [json.loads(line) for line in written.read_text().splitlines()]
    for index, line in enumerate(lines):
        line["objects"] = {f"{colours[index % 3]} square": index + 1}
    written.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return understanding / "data.jsonl", written


def test_the_page_has_the_files() -> None:
    assert sorted(FILES) == [
        "build_mine.py",
        "bytes_policy.py",
        "captions_folder.py",
        "colour_grid.py",
        "mine.toml",
        "my_rewards.py",
        "objects_annotator.py",
        "train_mine.py",
    ]


def test_a_run_of_all_files_of_the_page(here: Path, raw: tuple[Path, Path]) -> None:
    summary = module("build_mine").build(*raw, here / "pairug")
    pairs = read_pairs(here / "pairug" / "pairs.jsonl")
    assert len(pairs) == summary.pairs == summary.aligned + summary.retrieved
    assert summary.aligned == 2
    assert summary.retrieved > 0
    assert not summary.dropped

    policies = module("bytes_policy")
    torch.manual_seed(0)
    policies.BytesPolicy(policies.BytesModel()).save_pretrained(here / "start")
    result = module("train_mine").train(here / "mine.toml", here / "run")
    assert result.steps == 12
    rows = MetricsLog(here / "run" / "metrics.jsonl").rows()
    assert rows[-1]["generation/reward"] > rows[1]["generation/reward"]
    assert [("eval/reads_red" in row) for row in rows] == [row["step"] % 6 == 0 for row in rows]
    trained, start = load_policy(here / "run" / "final"), load_policy(here / "start")
    assert not torch.equal(trained.module.cells.weight, start.module.cells.weight)
    assert torch.equal(trained.module.eye.weight, start.module.eye.weight)


@pytest.mark.parametrize("branch", ["guided", "conditional"])
def test_the_policy_keeps_the_contract(here: Path, branch: Any) -> None:
    policies = module("bytes_policy")
    torch.manual_seed(1)
    policy = policies.BytesPolicy(policies.BytesModel())
    red = Image.new("RGB", (8, 8), "red")
    text = {"rollouts": 3, "temperature": 0.7, "max_new_tokens": 5, "seed": 4}
    image = {"rollouts": 3, "temperature": 1.3, "guidance": 3.0, "branch": branch, "seed": 4}
    answers = policy.sample_text(TextSampling(images=[red, red], questions=["a?", "bb?"], **text))
    generated = policy.sample_images(ImageSampling(prompts=["a", "bb"], **image))
    trajectories = [one for group in (*answers, *generated) for one in group]
    replay = policy.log_probs(trajectories)
    for row, trajectory in enumerate(trajectories):
        count = len(trajectory.tokens)
        torch.testing.assert_close(replay.values[row, :count].detach(), trajectory.log_probs)
        assert replay.mask[row].sum() == count
    alone = policy.sample_images(ImageSampling(prompts=["a"], **image))
    assert [one.tokens.tolist() for one in alone[0]] == [one.tokens.tolist() for one in generated[0]]


def test_rewards_by_name(here: Path) -> None:
    record = Annotation(image_path="-", prompt="-", question="how many?", answer="2")
    images = [Image.new("RGB", (2, 2), "red"), Image.new("RGB", (2, 2), "black")]
    assert image_reward("my_rewards:Redness")([record, record], images) == [1.0, 0.0]
    scores = text_reward("my_rewards:RightAndShort")([record] * 3, ["2", "the answer is 2", "3"])
    assert scores == pytest.approx([1.0, 0.97, 0.0])


def test_the_command_takes_own_annotators_and_encoders(here: Path, raw: tuple[Path, Path]) -> None:
    """Annotators find images as the page says: image_path opens from the working directory."""
    words = ["pairs", "build", "--understanding", str(raw[0]), "--generation", str(raw[1]), "--out", "made"]
    (here / "looking.py").write_text(
        "from pathlib import Path\n"
        "from objects_annotator import ObjectsAnnotator\n"
        "class Looking(ObjectsAnnotator):\n"
        "    def caption(self, sample, feedback):\n"
        "        assert Path(sample.image_path).is_file()\n"
        "        return super().caption(sample, feedback)\n"
    )
    outcome = CliRunner().invoke(
        app, [*words, "--annotator", "looking:Looking", "--encoder", "colour_grid:colour_grid"]
    )
    sys.modules.pop("looking", None)
    assert outcome.exit_code == 0, outcome.output
    assert "12 completed, 0 dropped" in outcome.output

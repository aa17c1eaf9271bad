"""The commands of docs/first-run.md, in order, on the tiny model and images of the digits world."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pairuni.cli.app import app
from pairuni.digits.world import write_world

PAGE = (Path(__file__).parents[2] / "docs" / "first-run.md").read_text(encoding="utf-8")
COMMANDS = [
    words
    for block in re.findall(r"^```bash\n(.*?)^```", PAGE, re.S | re.M)
    for line in block.replace("\\\n", " ").splitlines()
    if (words := shlex.split(line, comments=True))[0] == "pairuni"
]
BUILD = ["--annotator", "scene", "--encoder", "policy:tiny"]
TRAIN = shlex.split(
    "--policy.model tiny --policy.dtype float32 --reward.generation digits --rollout.understanding 2 "
    "--rollout.generation 2 --rollout.max-new-tokens 8 --pairgrpo.batches-per-step 1 --evaluation.items 4"
)
SHORTER = {"20": "2", "300": "3", "10": "1", "5": "1"}


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The two files of the page, and its build."""
    folder = tmp_path / "mine"
    world = write_world(folder, seed=0, understanding=30, generation=30)
    for task, file in (("understanding", world.understanding), ("generation", world.generation)):
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        lines = [json.dumps({**row, "image_path": f"{task}/{row['image_path']}"}) + "\n" for row in rows]
        (folder / f"{task}.jsonl").write_text("".join(lines), encoding="utf-8")
    (folder / "images").mkdir()
    (folder / "understanding" / "images" / "00000.png").rename(folder / "images" / "cats.jpg")
    first = (folder / "understanding.jsonl").read_text(encoding="utf-8")
    (folder / "understanding.jsonl").write_text(
        first.replace("understanding/images/00000.png", "images/cats.jpg")
    )
    build = re.search(r"^```toml\n(.*?)^```", PAGE, re.S | re.M)
    assert build is not None
    (folder / "pairs.toml").write_text(build[1], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return folder


def test_the_page_runs(mine: Path) -> None:
    assert len(COMMANDS) == 12
    said = ""
    for words in COMMANDS:
        more = {"build": BUILD, "train": TRAIN}.get(words[2] if words[1] == "pairs" else words[1], [])
        ended = CliRunner().invoke(app, [*(SHORTER.get(word, word) for word in words[1:]), *more])
        assert ended.exit_code == 0, f"{shlex.join(words)}\n{ended.output}"
        said += ended.output
    assert "1 x RTX 4090 24GB   fits: " in said
    assert "time a step" in said
    assert (mine / "pairug" / "gallery" / "gallery.html").is_file()
    run = mine.parent / "runs" / "first"
    steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in steps if "grad_norm" in row] == [1, 2, 3]
    for key in re.findall(r"^\| `([a-z_/]+)` \| (?!images)", PAGE.partition("| look at |")[2], re.M):
        assert key in steps[-1], key
    assert (run / "history.jsonl").is_file()
    assert (mine.parent / "models" / "first" / "config.json").is_file()
    assert (mine.parent / "stall.png").is_file()

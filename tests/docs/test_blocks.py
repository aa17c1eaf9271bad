"""Every code block of README and docs/ is run, or says why not in a comment before it: <!-- not run: REASON -->."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import pairuni
from pairuni.config import StudySettings
from pairuni.digits.world import write_world
from pairuni.records import Annotation, GenerationSample, UnderstandingSample
from warm_python import WarmPython

ROOT = Path(__file__).parents[2]
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "benchmarks/README.md",
    *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
]
OUTPUT = {"", "text", "bibtex"}
"""Languages of blocks that are not code."""
OTHER_TESTS = {"docs/python.md": "test_python_page.py", "docs/extending.md": "test_extending.py"}
"""Pages whose Python runs as one program."""
SHORTER = [
    ("range(3000)", "range(30)"),
    ("--items 510", "--items 6"),
    ("eval digits --model", "eval digits --items 6 --model"),
    (
        "train recipes/digits.toml",
        "train recipes/digits.toml --pairgrpo.steps 1 --pairgrpo.pairs-per-batch 2",
    ),
    ("--parts 100", "--parts 2"),
]
"""Sizes that only take time."""
MARK = re.compile(r"(?:<!-- (?P<mark>[^\n]*) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```", re.S | re.M)


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    text: str
    mark: str | None

    @property
    def runs(self) -> bool:
        elsewhere = self.page in OTHER_TESTS and self.language in {"python", "toml"}
        return not (
            elsewhere
            or self.language in OUTPUT
            or (self.mark is not None and self.mark.startswith("not run: "))
        )


def blocks() -> Iterator[Block]:
    for page in sorted(PAGES):
        source = (ROOT / page).read_text(encoding="utf-8")
        for found in MARK.finditer(source):
            line = source.count("\n", 0, found.start("language")) + 1
            yield Block(page, line, found["language"], found["text"], found["mark"])


def of(*languages: str) -> pytest.MarkDecorator:
    chosen = [one for one in blocks() if one.runs and one.language in languages]
    return pytest.mark.parametrize("block", chosen, ids=[f"{one.page}:{one.line}" for one in chosen])


def test_every_language_is_known_and_every_reason_given() -> None:
    for block in blocks():
        where = f"{block.page}:{block.line}"
        assert block.language in {*OUTPUT, "bash", "python", "toml", "json", "yaml"}, where
        assert block.language != "yaml" or not block.runs, f"{where}: nothing here can run yaml"
        if block.mark is not None and block.mark.startswith("not run"):
            assert re.fullmatch(r"not run: \w.{5,}", block.mark), f"{where}: {block.mark}"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: data and pairs in mine/, a short run of the demo in runs/demo, and the repository's recipes."""
    folder = tmp_path_factory.mktemp("prepared")
    demo, mine = folder / "runs" / "demo", folder / "mine"
    world = write_world(demo / "world", seed=0, understanding=40, generation=40)
    names = {"understanding": [str(world.understanding)], "generation": [str(world.generation)]}
    common = {"annotator": "scene", "encoder": "policy:tiny"}
    pairuni.build_pairs(pairuni.PairsSettings(**names, **common, out=mine / "pairug"))
    shutil.copytree(mine / "pairug", demo / "pairug")
    (mine / "pairs.toml").write_text(
        "".join(f"{key} = {json.dumps(value)}\n" for key, value in {**names, **common}.items())
        + 'out = "mine/pairug"\n'
    )
    settings = {
        "data.pairs": demo / "pairug" / "pairs.jsonl",
        "pairgrpo.steps": 1,
        "pairgrpo.pairs_per_batch": 2,
    }
    pairuni.train(pairuni.load_settings(pairuni.RunSettings, "digits", settings), out=demo)
    for name in ("recipes", "src"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def run(block: Block, prepared: Path, here: Path, command: list[str], warm: WarmPython) -> None:
    empty = block.mark == "run in an empty folder"
    folder = here / "folder"
    if empty:
        folder.mkdir()
    else:
        shutil.copytree(prepared, folder, symlinks=True)
    text = block.text
    for long, short in SHORTER:
        text = text.replace(long, short)
    done = subprocess.run(
        [*command, text], cwd=folder, env=warm.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"


@of("bash")
def test_commands_run(block: Block, prepared: Path, tmp_path: Path, warm_python: WarmPython) -> None:
    run(block, prepared, tmp_path, ["bash", "-euo", "pipefail", "-c"], warm_python)


@of("python")
def test_python_runs(block: Block, prepared: Path, tmp_path: Path, warm_python: WarmPython) -> None:
    run(block, prepared, tmp_path, [warm_python.python, "-c"], warm_python)


@of("toml")
def test_settings_load(block: Block, tmp_path: Path) -> None:
    (tmp_path / "block.toml").write_text(block.text)
    values = tomllib.loads(block.text)
    if "rows" in values:
        assert pairuni.load_settings(StudySettings, tmp_path / "block.toml").rows
        return
    if "understanding" in values:
        assert pairuni.load_settings(pairuni.PairsSettings, tmp_path / "block.toml").understanding
        return
    needed = {"policy.model": "tiny", "data.pairs": "pairs.jsonl"}
    missing = {key: value for key, value in needed.items() if key.split(".")[0] not in values}
    assert pairuni.load_settings(pairuni.RunSettings, tmp_path / "block.toml", missing)


@of("json")
def test_records_are_valid(block: Block) -> None:
    if '"id"' not in block.text:
        Annotation.model_validate_json(block.text)
        return
    for row in map(json.loads, block.text.splitlines()):
        (UnderstandingSample if "question" in row else GenerationSample).model_validate(row)


def test_the_check_can_fail() -> None:
    """A block without a mark is run, and one with a mark is not."""
    source = "x\n\n```bash\nfalse\n```\n\n<!-- not run: takes hours -->\n```bash\nfalse\n```\n"
    found = [
        Block("docs/x.md", 1, one["language"], one["text"], one["mark"]) for one in MARK.finditer(source)
    ]
    assert [one.runs for one in found] == [True, False]

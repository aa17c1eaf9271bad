"""The commands of docs/sources.md run as they are written, on data of the kinds that they name."""

from __future__ import annotations

import io
import json
import re
import shlex
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from chat_server import ChatServer
from pairuni.cli.app import app
from pairuni.pairug.sources import SampleReader
from pairuni.records import UnderstandingSample

PAGE = Path(__file__).parents[2] / "docs" / "sources.md"
COMMANDS = [
    shlex.split(line)
    for block in re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.S | re.M)
    for line in block.replace("\\\n", " ").splitlines()
]


def picture(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two records of each data set that the page names, in the working directory."""

    def lines(folder: str, name: str, first: int, **columns: object) -> None:
        (tmp_path / folder).mkdir(exist_ok=True)
        rows = []
        for number in (first, first + 1):
            (tmp_path / folder / f"{number}.png").write_bytes(picture(number))
            rows.append({"image": f"{number}.png", **columns})
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / folder / name).write_text(text, encoding="utf-8")

    lines(
        "puzzlevqa",
        "a.jsonl",
        0,
        question="Which?",
        options=["red", "blue"],
        answer="blue",
        caption="two dots",
    )
    lines("nlvr", "dev.jsonl", 2, sentence="There are two dots.", label="true")
    lines("coco", "photos.jsonl", 4, captions=["a dog", "a brown dog"])
    lines("mine", "generation.jsonl", 6, prompt="a cat")
    rows = [
        {
            "images": [{"bytes": picture(number), "path": None}],
            "prompt": [{"role": "user", "content": "<image>How many?"}],
            "ability": "Counting",
            "reward_model": {"ground_truth": "\\boxed{2}"},
        }
        for number in (8, 9)
    ]
    (tmp_path / "orsta").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "orsta" / "train.parquet")
    (tmp_path / "blip3o").mkdir()
    with tarfile.open(tmp_path / "blip3o" / "0000.tar", "w") as tar:
        for name, content in (("1.png", picture(10)), ("1.txt", b"a red square")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    return tmp_path


def test_the_page_has_commands() -> None:
    assert [words[:3] for words in COMMANDS] == [["pairuni", "pairs", "build"]] * 2


@pytest.mark.parametrize("words", COMMANDS, ids=range(len(COMMANDS)))
def test_commands_run_as_they_are_written(data: Path, words: list[str]) -> None:
    with ChatServer() as server:
        small = ["--completion.base-url", server.url, "--encoder", "policy:tiny", "--clusters", "1"]
        outcome = CliRunner().invoke(app, [*words[1:], *small])
    assert outcome.exit_code == 0, outcome.output
    rows = (data / "mine" / "pairug" / "quadruples.jsonl").read_text(encoding="utf-8").split("\n")
    completed = [json.loads(row) for row in rows if row]
    sources = {row["source"].partition(":")[0] for row in completed}
    expected = {
        "orsta/": {"train.parquet", "0000.tar", "generation.jsonl"},
        "puzzle": {"a.jsonl", "dev.jsonl", "photos.jsonl"},
    }
    assert sources == next(names for part, names in expected.items() if part in " ".join(words))
    for row in completed:
        if row["source"].startswith("dev.jsonl"):
            assert (row["question"], row["answer"], row["tag"]) == (
                "There are two dots. Is that true or false?",
                "true",
                "nlvr",
            )
        if row["source"].startswith("photos.jsonl"):
            assert (row["prompt"], row["tag"]) == ("a brown dog", "coco")


def table_of(heading: str) -> list[list[str]]:
    """The rows of the page's table whose first heading is this one."""
    text = PAGE.read_text(encoding="utf-8")
    found = re.search(rf"^\| {heading} \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.M)
    assert found, heading
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in found[1].splitlines()]


def test_the_forms_of_options_on_the_page_are_read(tmp_path: Path) -> None:
    examples = [
        code for _, cell in table_of("options") if "red" in cell for code in re.findall(r"`([^`]+)`", cell)
    ]
    assert len(examples) >= 5
    for code in examples:
        if code.startswith(("[", "{")) and "..." not in code:
            row = {"image": "a.png", "question": "Which?", "answer": "B", "options": json.loads(code)}
        elif code.startswith("A. red"):
            row = {"image": "a.png", "question": "Which?", "answer": "B", "options": code}
        else:
            continue
        (tmp_path / "u.jsonl").write_text(json.dumps(row))
        (sample,) = SampleReader(str(tmp_path / "u.jsonl"), UnderstandingSample)
        assert isinstance(sample, UnderstandingSample), f"{code}: {sample}"
        assert (sample.question[:23], sample.answer) == ("Which? A. red B. blue A", "B")

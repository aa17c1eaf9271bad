"""The commands of docs/sources.md run as they are written, on data of the kinds that they name."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from chat_server import ChatServer
from pairuni.cli.app import app
from source_data import encoded, lines, orsta_row, parquet, tar_of, understood

PAGE = Path(__file__).parents[2] / "docs" / "sources.md"
COMMANDS = [
    shlex.split(line)
    for block in re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.S | re.M)
    for line in block.replace("\\\n", " ").splitlines()
]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two records of each data set that the page names, in the working directory."""

    def write(folder: str, name: str, first: int, **columns: object) -> None:
        (tmp_path / folder).mkdir(exist_ok=True)
        for number in (first, first + 1):
            (tmp_path / folder / f"{number}.png").write_bytes(encoded(number=number))
        lines(tmp_path / folder / name, *({"image": f"{n}.png", **columns} for n in (first, first + 1)))

    puzzle = {"question": "Which?", "options": ["red", "blue"], "answer": "blue", "caption": "two dots"}
    write("puzzlevqa", "a.jsonl", 0, **puzzle)
    write("nlvr", "dev.jsonl", 2, sentence="There are two dots.", label="true")
    write("coco", "photos.jsonl", 4, captions=["a dog", "a brown dog"])
    write("mine", "generation.jsonl", 6, prompt="a cat")
    rows = [orsta_row(images=[{"bytes": encoded(number=n), "path": None}]) for n in (8, 9)]
    (tmp_path / "orsta").mkdir()
    parquet(tmp_path / "orsta" / "train.parquet", *rows)
    (tmp_path / "blip3o").mkdir()
    tar_of(tmp_path / "blip3o" / "0000.tar", [("1.png", encoded(number=10)), ("1.txt", b"a red square")])
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
        sample = understood(lines(tmp_path / "u.jsonl", row)).sample
        assert (sample.question[:23], sample.answer) == ("Which? A. red B. blue A", "B")

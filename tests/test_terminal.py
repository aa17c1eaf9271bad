"""Control characters in names, keys, ids and replies never reach the terminal, whatever command prints them."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import pty
import re
import subprocess
import sys
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.progress import Progress as RichProgress
from rich.progress import TextColumn
from tqdm import tqdm
from typer.testing import CliRunner

from fake_run import write_fake_run
from pairuni.cli import models
from pairuni.cli.app import app
from pairuni.console.progress import Progress
from pairuni.console.rich_output import Console
from pairuni.console.terminal import VisibleStream, print_reply, visible, visible_streams
from tiny_models import save_tiny_janus

TITLE, RED, C1 = "\x1b]0;owned\x07", "\x1b[91mred", "\x9b91m"
HOSTILE = f"{TITLE}{RED}{C1}\u202egnp\u2066\u2028\x85\x7f\r[link=https://evil.example]here[/link]"
NAME = HOSTILE.replace("/", "|")
"""The same as a file name."""
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def test_control_characters_are_escaped_and_the_rest_stays() -> None:
    assert visible(HOSTILE) == (
        "\\x1b]0;owned\\x07\\x1b[91mred\\u009b91m\\u202egnp\\u2066\\u2028\\u0085\\u007f\\x0d"
        "[link=https://evil.example]here[/link]"
    )
    plain = "Straße, 数字, עברית, 👩‍👩‍👧, é\tof\ntwo lines \\x1b [red]"
    assert visible(plain) == plain
    assert visible("a\nb", one_line=True) == "a\\nb"
    assert visible("\ud83d") == "\\ud83d"
    for code in [*range(0x20), *range(0x7F, 0xA0), *range(0x2028, 0x202F), *range(0x2066, 0x206A), 0xDFFF]:
        if chr(code) not in "\t\n":
            assert visible(f"a{chr(code)}b").isascii(), hex(code)
    text = json.dumps({HOSTILE: HOSTILE + "\ud800"}, ensure_ascii=False)
    assert json.loads(visible(text)) == {HOSTILE: HOSTILE + "\ud800"}


def side(**other: Any) -> dict[str, Any]:
    return {"image_path": "a.png", "prompt": "p", "question": "q", "answer": "a", "tag": "t", **other}


def pair_line(**other: Any) -> str:
    row = {"similarity": 1.0, "understand_ann": side(), "generate_ann": side(), **other}
    return json.dumps(row) + "\n"


class HostileFolder:
    """A folder with a hostile name; each case adds the files that its command reads."""

    def __init__(self, root: Path) -> None:
        self.root = root / NAME
        self.root.mkdir()
        Image.new("RGB", (16, 16), "red").save(self.root / "a.png")

    def write(self, name: str, text: str) -> str:
        path = self.root / name
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        return str(path)

    def tar(self) -> str:
        path = self.root / "a.tar"
        with tarfile.open(path, "w") as tar:
            for name in (NAME + ".json", NAME + ".png"):
                member = tarfile.TarInfo(name)
                member.size = 3
                tar.addfile(member, io.BytesIO(b"\x1b[1"))
        return str(path)

    def table(self) -> str:
        path = self.root / "a.csv"
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([[HOSTILE, "image"], ["x", "a.png"]])
        return str(path)

    def build(self, raw: str, *more: str) -> list[str]:
        out = str(self.root / "out")
        return [
            "pairs",
            "build",
            f"--understanding={raw}",
            f"--generation={raw}",
            f"--out={out}",
            "--annotator=scene",
            "--encoder=policy:tiny",
            *more,
        ]


Words = Callable[[HostileFolder], list[str]]
COMMANDS: dict[str, Words] = {
    "check: tags and paths": lambda h: [
        "pairs", "check", h.write("p.jsonl", pair_line(understand_ann=side(image_path=NAME, tag=HOSTILE, id=HOSTILE)))
    ],
    "check: keys": lambda h: ["pairs", "check", h.write("p.jsonl", pair_line(**{HOSTILE: 1, "similarity": HOSTILE}))],
    "check: no JSON": lambda h: ["pairs", "check", h.write("p.jsonl", HOSTILE + "\n")],
    "check: file name": lambda h: ["pairs", "check", str(h.root / f"{NAME}.jsonl")],
    "check: suffix": lambda h: ["pairs", "check", str(h.root / f"x.{NAME}")],
    "stats": lambda h: ["pairs", "stats", h.write("p.jsonl", pair_line(understand_ann=side(tag=HOSTILE)))],
    "gallery": lambda h: ["pairs", "gallery", h.write("p.jsonl", pair_line())],
    "convert": lambda h: ["pairs", "convert", h.write("p.jsonl", pair_line()), str(h.root / f"{NAME}.xyz")],
    "push": lambda h: ["pairs", "push", h.write("p.jsonl", HOSTILE), HOSTILE],
    "build: CSV header": lambda h: h.build(h.table()),
    "build: JSON keys": lambda h: h.build(h.write("r.jsonl", json.dumps({HOSTILE: HOSTILE, "image": NAME}) + "\n")),
    "build: tar members": lambda h: h.build(h.tar()),
    "build: a column of that name": lambda h: h.build(h.table() + f"?question={HOSTILE}x"),
    "build: a setting": lambda h: h.build(h.table(), f"--{HOSTILE}=1"),
    "build: dry run": lambda h: h.build(h.table(), "--dry-run"),
    "split": lambda h: ["pairs", "split", *h.build(h.table())[2:]],
    "join": lambda h: ["pairs", "join", str(h.root)],
    "train: recipe's name": lambda h: ["train", str(h.root / f"{NAME}.toml")],
    "train: no TOML": lambda h: ["train", h.write("r.toml", HOSTILE)],
    "train: keys": lambda h: ["train", h.write("r.toml", f"[data]\n{json.dumps(HOSTILE)} = 1\n")],
    "train: values": lambda h: [
        "train",
        h.write("r.toml", f"data.pairs = {json.dumps(NAME)}\nreward.generation = {json.dumps(HOSTILE)}\n"),
        "--policy.model=tiny",
    ],
    "report: folder": lambda h: ["report", str(h.root / NAME)],
    "report: config": lambda h: ["report", str((h.root, h.write("config.toml", HOSTILE))[0])],
    "report: page": lambda h: ["report", str(write_fake_run(h.root / "run", steps=3, items=2, pairs=3))],
    "score": lambda h: ["eval", "score", "imgedit", h.write("a.json", HOSTILE), "--data", h.write("b.json", "{}")],
    "score: a task": lambda h: ["eval", "score", HOSTILE, h.write("answers.json", HOSTILE)],
    "compare": lambda h: ["compare", h.write("a.json", json.dumps({"task": HOSTILE}))],
    "answer: the image": lambda h: ["answer", h.write("x.png", HOSTILE), "q", "--model", "tiny"],
    "answer: the model": lambda h: ["answer", str(h.root / "a.png"), "q", "--model", str(h.root / NAME)],
    "draw": lambda h: ["draw", HOSTILE, "--model", "tiny", "--out", str(h.root / f"x.{NAME}")],
    "edit": lambda h: ["edit", str(h.root / "a.png"), "x", "--model", "tiny", "--out", str(h.root / f"x.{NAME}")],
    "serve-reward": lambda h: ["serve-reward", HOSTILE],
    "serve-reward: a class": lambda h: ["serve-reward", f"{NAME}:Class"],
    "convert a model": lambda h: ["convert", str(h.root), str(h.root / NAME), "--layout", "original"],
    "no such option": lambda h: ["report", f"--{HOSTILE}"],
    "no such command": lambda h: [HOSTILE],
    "no such choice": lambda h: ["convert", "a", "b", "--layout", HOSTILE],
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_prints_control_characters(name: str, tmp_path: Path) -> None:
    folder = HostileFolder(tmp_path)
    ran = CliRunner().invoke(app, COMMANDS[name](folder))
    said = ran.stdout + ran.stderr
    assert not CONTROL.search(said), (name, said)
    assert said.strip()
    assert ran.exception is None or isinstance(ran.exception, SystemExit), ran.exception
    assert "\\x1b" in said or "\\u001b" in said, said


@pytest.mark.parametrize("word", ["--traceback", "PAIRUNI_TRACEBACK"])
def test_a_traceback_on_a_real_terminal(word: str, tmp_path: Path) -> None:
    folder = HostileFolder(tmp_path)
    words = ["report", folder.write("config.toml", HOSTILE).removesuffix("/config.toml")]
    environment = {**os.environ, "TERM": "xterm-256color"}
    if word.startswith("-"):
        words.append(word)
    else:
        environment[word] = "1"
    said = in_a_terminal([sys.executable, "-m", "pairuni", *words], environment)
    assert "Traceback" in said
    assert not CONTROL.search(said.replace("\r\n", "\n"))


def in_a_terminal(words: list[str], environment: dict[str, str]) -> str:
    """The output of a program on a pseudo-terminal."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    finally:
        os.close(theirs)
    said = b""
    while True:
        try:
            piece = os.read(ours, 1 << 16)
        except OSError:  # end of a pseudo-terminal on Linux
            break
        if not piece:
            break
        said += piece
    os.close(ours)
    process.wait(60)
    return said.decode(errors="surrogateescape")


BARS = f"""
import logging, sys, warnings
from pairuni.cli.app import make_visible
from pairuni.cli.errors import _set_up_logging
from pairuni.console.progress import Progress
from tqdm import tqdm

HOSTILE = {HOSTILE!r}
make_visible()
_set_up_logging()
with Progress(HOSTILE, total=2) as progress:
    logging.getLogger("pairuni").warning("log %s", HOSTILE)
    warnings.warn("warned " + HOSTILE)
    print("printed", HOSTILE, file=sys.stderr)
    print("printed", HOSTILE)
    progress.advance(status=HOSTILE)
    progress.advance(status=HOSTILE)
for _ in tqdm(range(2), desc=HOSTILE):
    pass
print("after", HOSTILE)
raise TypeError(HOSTILE)
"""


def test_bars_logs_warnings_and_a_bug_on_a_real_terminal(tmp_path: Path) -> None:
    (tmp_path / "bars.py").write_text(BARS)
    said = in_a_terminal(
        [sys.executable, str(tmp_path / "bars.py")],
        {**os.environ, "TERM": "xterm-256color", "COLUMNS": "400"},
    )
    assert TITLE not in said
    assert RED not in said
    assert not re.search("[\x80-\x9f\u202e\u2028]|\x1b\\]", said)
    assert "\x1b[" in said, "the bars are drawn"
    assert "2/2" in said
    for word in ("log", "warned", "printed", "after", "TypeError:"):
        assert f"{word} \\x1b]0;owned" in said, word
    assert "[link=https://evil.example]here[/link]" in said


def test_a_reply_is_unchanged_in_a_file_and_escaped_on_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "answer", lambda *args, **options: HOSTILE)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    words = ["answer", str(tmp_path / "a.png"), "q", "--model", "tiny"]
    assert CliRunner().invoke(app, words).stdout == HOSTILE + "\n"

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdout", Terminal())
    with visible_streams():
        print_reply(HOSTILE)
    assert sys.stdout.getvalue() == visible(HOSTILE) + "\n"  # type: ignore[attr-defined]


def test_further_lines_of_a_message_are_indented(capsys: pytest.CaptureFixture[str]) -> None:
    CliRunner().invoke(app, ["env"])  # sets the handler up
    logging.getLogger("pairuni").warning("left out: %s", "a\nerror: all is lost")
    assert capsys.readouterr().err == "left out: a\n  error: all is lost\n"


def test_streams_with_other_encodings() -> None:
    data = io.BytesIO()
    stream: Any = VisibleStream(io.TextIOWrapper(data, encoding="ascii", write_through=True))
    stream.write("Straße \x1b\ud800")
    stream.writelines(["a", "b"])
    assert data.getvalue() == b"Stra\\xdfe \\x1b\\ud800ab"
    assert stream.encoding == "ascii"
    assert not hasattr(stream, "buffer")
    with pytest.raises(TypeError):
        stream.write(b"bytes")


def test_rich_prints_text_without_markup() -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=400)
    console.print(f"[red]{HOSTILE}[/red] :warning:")
    without = HOSTILE.replace("\r", "").replace("\x07", "")  # rich removes these two
    assert f"[red]{visible(without)}[/red] :warning:" in text.getvalue()
    with RichProgress(TextColumn("{task.description}"), console=console) as bar:
        bar.add_task(TITLE, total=1)
    assert TITLE not in text.getvalue()
    with Progress(HOSTILE, total=1, console=console) as progress:
        progress.advance(status=HOSTILE)
    assert "here[/link]" in text.getvalue()
    assert RED not in text.getvalue()


def test_progress_bars_of_libraries_still_move() -> None:
    text = io.StringIO()
    stream: Any = VisibleStream(text)
    for _ in tqdm(range(3), desc=HOSTILE.replace("\r", ""), file=stream, ascii=True, mininterval=0):
        pass
    assert text.getvalue().count("\r") >= 2
    assert TITLE not in text.getvalue()
    assert visible(TITLE) in text.getvalue()


def test_model_folders_and_hostile_settings_of_a_run(tmp_path: Path) -> None:
    model = save_tiny_janus(tmp_path / NAME)
    (model / "config.json").write_text(json.dumps({"model_type": HOSTILE, HOSTILE: 1}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ran = CliRunner().invoke(app, ["draw", "x", "--out", str(tmp_path / "x.png"), "--model", str(model)])
    assert ran.exit_code == 1
    assert not CONTROL.search(ran.stdout + ran.stderr)

"""The commands, each once; `pairuni train` has its own file."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from commands import call, fails
from fake_run import write_fake_run
from pairuni import __version__
from pairuni.records import GenerationSample, Quadruple, UnderstandingSample, Verdict
from pairuni.runs.models import load_model
from tiny_models import save_tiny_janus
from user_folder import UserFolder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_janus(tmp_path_factory.mktemp("models") / "janus")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return UserFolder(tmp_path / "user").pairs


def test_help_names_every_command() -> None:
    code, said, _ = call("--help")
    assert code == 0
    for command in ("demo", "pairs", "train", "eval", "draw", "edit", "answer", "convert", "report", "env"):
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


@pytest.mark.parametrize("words", [("--out", ""), ("--out=",)])
@pytest.mark.parametrize("command", [("train", "digits"), ("pairs", "build"), ("eval", "digits")])
def test_an_empty_out_does_not_mean_the_working_directory(
    command: tuple[str, ...], words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, said = call(*command, *words)
    assert code == 2
    assert "--out: is empty; name a folder" in said
    assert not list(tmp_path.iterdir())


def test_pairs_check_and_stats(pairs: Path) -> None:
    code, said, _ = call("pairs", "check", pairs)
    assert (code, said) == (0, f"{pairs}: no problems\n")
    assert json.loads(call("pairs", "stats", pairs)[1])["kinds"] == {"aligned": 3}
    (pairs.parent / "2.png").write_bytes((pairs.parent / "2.png").read_bytes()[:50])
    pairs.write_text(pairs.read_text() + '{"similarity"\n')
    code, said, errors = call("pairs", "check", pairs)
    assert code == 1
    assert "3 problems" in errors  # both sides of the broken image, and the broken line
    assert "line 3" in said
    assert "line 4" in said


class Echo:
    """An annotator for these tests: says the same of every sample, and is content."""

    def caption(self, sample: UnderstandingSample, feedback: str | None) -> str:
        return "one"

    def question(self, sample: GenerationSample, feedback: str | None) -> tuple[str, str]:
        return "what?", "one"

    def verify(self, quadruple: Quadruple) -> Verdict:
        return Verdict(ok=True)


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
    assert "no such file or folder of raw samples" in fails(
        "pairs", "build", *words, "--generation", tmp_path / "none"
    )


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
    two = (tmp_path / "cat-1.png", tmp_path / "cat-2.png")
    code, said, errors = call("answer", *two, "which differs?", "--model", model, "--max-new-tokens", 3)
    assert code == 0, errors
    expected = load_model(model, device="cpu").answer(
        [Image.open(path) for path in two], "which differs?", max_new_tokens=3
    )
    assert said.rstrip("\n") == expected
    said = fails("answer", *two, "--model", model)
    assert f"{two[1]} is an image; the question is the last argument" in said
    assert "no such image" in fails("answer", tmp_path / "none.png", "what?", "--model", model)
    (tmp_path / "cut.png").write_bytes(first[:60])
    assert "cut.png: cannot be read as an image" in fails(
        "answer", tmp_path / "cut.png", "what?", "--model", model
    )
    assert "not an image file name" in fails("draw", "a cat", "--model", model, "--out", tmp_path / "cat.txt")
    assert "no folder" in fails("draw", "a cat", "--model", tmp_path / "none", "--out", tmp_path / "x.png")
    fails("draw", "a cat", "--model", "tiny", "--out", tmp_path / "x.png", "--guidance", "0.5", code=2)


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
    assert ("(a CPU build)" in said) == (torch.version.cuda is None)


@pytest.mark.parametrize("group", [(), ("pairs",), ("eval",), ("recipes",)])
def test_help_of_a_group_has_whole_sentences(group: tuple[str, ...]) -> None:
    said = call(*group, "--help")[1]
    listed = said.partition("Commands:\n")[2].partition("\n\n")[0]
    texts = re.split(r"\n  (?=\S)", "\n" + listed)[1:]
    assert len(texts) > (0 if group == ("recipes",) else 5)
    for text in texts:
        assert not text.endswith("..."), text
        assert len(text.split()) > 3, text
        assert "list[" not in text


def test_traceback_on_demand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError):
        call("report", tmp_path / "none", "--traceback")
    monkeypatch.setenv("PAIRUNI_TRACEBACK", "1")
    with pytest.raises(FileNotFoundError):
        call("report", tmp_path / "none")

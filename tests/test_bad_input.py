"""What a person may get wrong, through the commands: one clear sentence, a non-zero exit, earlier results intact."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from pairuni.cli.app import app
from pairuni.training import checkpoint
from tiny_models import save_tiny_janus

RECIPE = """
[policy]
model = "{model}"
device = "cpu"
[data]
pairs = "{pairs}"
[rollout]
understanding = 2
generation = 2
guidance = 2.0
max_new_tokens = 3
[reward]
generation = "test_bad_input:Brightness"
[pairgrpo]
steps = 2
pairs_per_batch = 1
learning_rate = 1e-3
[checkpoint]
every = 1
"""


class Brightness:
    """An image's reward for these tests."""

    name = "brightness"

    def __call__(self, records: object, samples: list[Image.Image]) -> list[float]:
        return [sum(sample.convert("L").resize((1, 1)).getdata()) / 255 for sample in samples]


class House:
    """A folder as a user has it: a model, raw data, pairs and a recipe."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.model = save_tiny_janus(root / "model")
        self.pairs, self.raw = root / "pairug" / "pairs.jsonl", root / "raw"
        self.pairs.parent.mkdir()
        self.raw.mkdir()
        lines, asked, prompted = [], [], []
        for index in range(3):
            picture = Image.new("RGB", (32, 32), (70 * index, 20, 200))
            for folder in (self.pairs.parent, self.raw):
                picture.save(folder / f"{index}.png")
            sample = {"id": str(index), "image_path": f"{index}.png"}
            scene = [{"place": "top left", "digit": index, "colour": "red"}]
            asked.append(
                {**sample, "question": "how many digits are there?", "answer": "one", "scene": scene}
            )
            prompted.append({**sample, "prompt": "a red " + ("zero", "one", "two")[index], "scene": scene})
            side = {"image_path": f"{index}.png", "prompt": "a", "question": "b?", "answer": "a", "tag": ""}
            lines.append({"similarity": 1.0, "understand_ann": side, "generate_ann": side})
        write_lines(self.pairs, lines)
        write_lines(self.raw / "u.jsonl", asked)
        write_lines(self.raw / "g.jsonl", prompted)
        self.recipe = root / "recipe.toml"
        self.recipe.write_text(RECIPE.format(model=self.model, pairs=self.pairs))

    def build(self, *words: str) -> tuple[str, ...]:
        return (
            *("pairs", "build", "--understanding", str(self.raw / "u.jsonl")),
            *("--generation", str(self.raw / "g.jsonl"), "--out", str(self.root / "built")),
            *("--encoder", f"policy:{self.model}", "--clusters", "1", *words),
        )

    def train(self, *words: str) -> tuple[str, ...]:
        return ("train", str(self.recipe), "--out", str(self.root / "run"), *words)


def write_lines(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def cut(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])


def missing_image(house: House) -> tuple[str, ...]:
    (house.pairs.parent / "1.png").unlink()
    return ("pairs", "check", str(house.pairs))


def truncated_png(house: House) -> tuple[str, ...]:
    cut(house.pairs.parent / "2.png", 60)
    return ("pairs", "check", str(house.pairs))


def half_a_line(house: House) -> tuple[str, ...]:
    cut(house.pairs, len(house.pairs.read_bytes()) - 40)
    return house.train()


def unknown_setting(house: House) -> tuple[str, ...]:
    return house.train("--pairgrpo.learning-rat", "1")


def threshold(house: House) -> tuple[str, ...]:
    return house.build("--threshold", "1.7")


def empty_understanding_set(house: House) -> tuple[str, ...]:
    (house.raw / "u.jsonl").write_text("")
    return house.build()


def raw_data_before_the_encoder(house: House) -> tuple[str, ...]:
    (house.raw / "g.jsonl").write_text("{}\n")
    return house.build("--encoder", "policy:nowhere")


def annotator_before_the_encoder(house: House) -> tuple[str, ...]:
    return house.build("--encoder", "policy:nowhere", "--annotator", "sceen")


def question_over_the_context(house: House) -> tuple[str, ...]:
    lines = house.pairs.read_text().splitlines()
    lines[1] = lines[1].replace('"b?"', json.dumps("word " * 500))
    house.pairs.write_text("\n".join(lines) + "\n")
    return house.train()


def special_token_of_a_prompt(house: House) -> tuple[str, ...]:
    lines = house.pairs.read_text().splitlines()
    lines[2] = lines[2].replace('"prompt": "a"', '"prompt": "a <image_placeholder>"')
    house.pairs.write_text("\n".join(lines) + "\n")
    return house.train("--dry-run")


def broken_image_of_a_run(house: House) -> tuple[str, ...]:
    cut(house.pairs.parent / "2.png", 60)
    return house.train()


def resume_of_nothing(house: House) -> tuple[str, ...]:
    return house.train("--resume")


def no_tokenizer(house: House) -> tuple[str, ...]:
    for file in house.model.glob("tokenizer*"):
        file.unlink()
    return ("answer", str(house.pairs.parent / "0.png"), "what?", "--model", str(house.model))


CASES: list[tuple[Callable[[House], tuple[str, ...]], str]] = [
    (missing_image, "1.png"),
    (truncated_png, "2.png"),
    (half_a_line, "line 3"),
    (unknown_setting, "did you mean --pairgrpo.learning-rate?"),
    (threshold, "--threshold is 1.7"),
    (empty_understanding_set, "u.jsonl"),
    (raw_data_before_the_encoder, "g.jsonl, line 1"),
    (annotator_before_the_encoder, "sceen"),
    (question_over_the_context, "pairs.jsonl, line 2, field understand_ann.question: 'word word"),
    (
        special_token_of_a_prompt,
        "pairs.jsonl, line 3, field generate_ann.prompt: 'a <image_placeholder>' contains",
    ),
    (broken_image_of_a_run, "pairs.jsonl, line 3, field understand_ann.image_path: '2.png'"),
    (resume_of_nothing, "run holds no run to resume; leave out --resume"),
    (no_tokenizer, "tokenizer"),
]


@pytest.mark.parametrize(("spoil", "said"), CASES, ids=[spoil.__name__ for spoil, _ in CASES])
def test_one_sentence_and_nothing_lost(
    spoil: Callable[[House], tuple[str, ...]], said: str, tmp_path: Path
) -> None:
    house = House(tmp_path)
    words = spoil(house)
    before = contents(tmp_path)
    result = CliRunner().invoke(app, list(words))
    printed = result.stdout + result.stderr
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 1
    assert said in printed
    assert "Traceback" not in printed
    assert len(printed.strip().splitlines()) <= 3, printed
    after = contents(tmp_path)
    assert {path: after.get(path) for path in before} == before


def test_a_full_disk_while_a_checkpoint_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(tmp_path)
    assert CliRunner().invoke(app, list(house.train("--pairgrpo.steps", "1"))).exit_code == 0
    shutil.rmtree(house.root / "run" / "final")
    before = contents(house.root / "run" / "checkpoints")
    assert before

    def full(tensors: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "save_file", full)
        result = CliRunner().invoke(app, list(house.train("--resume")))
    assert result.exit_code == 1
    assert "the disk is full" in result.stderr
    assert contents(house.root / "run" / "checkpoints") == before
    again = CliRunner().invoke(app, list(house.train("--resume")))
    assert again.exit_code == 0, again.stderr
    assert (house.root / "run" / "final" / "model.safetensors").is_file()


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }

"""A user's folder with everything that the commands read."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from tiny_lumina import SAMPLING, save_byte_lumina
from tiny_models import save_tiny_janus

RECIPE = """
[policy]
type = "{family}"
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
generation = "user_folder:Brightness"
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


class Letters:
    """An answer's reward for these tests, which differs between answers."""

    name = "letters"

    def __call__(self, records: object, samples: list[str]) -> list[float]:
        return [sum(ord(letter) % 7 for letter in sample) / 10 for sample in samples]


class UserFolder:
    """A model, raw data, pairs and a recipe of a user, and the commands that use them.

    family: of the model, as ``policy.type`` names it.
    """

    def __init__(self, root: Path, family: str = "janus") -> None:
        self.root, self.model = root, root / "model"
        root.mkdir(exist_ok=True)
        if family == "janus":
            save_tiny_janus(self.model)
        else:
            save_byte_lumina(self.model, **SAMPLING)
        self.pairs, self.raw = root / "pairug" / "pairs.jsonl", root / "raw"
        self.pairs.parent.mkdir()
        self.raw.mkdir()
        lines, asked, prompted = [], [], []
        for index in range(3):
            image = Image.new("RGB", (32, 32), (70 * index, 20, 200))
            for folder in (self.pairs.parent, self.raw):
                image.save(folder / f"{index}.png")
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
        self.recipe.write_text(RECIPE.format(family=family, model=self.model, pairs=self.pairs))

    def build(self, *words: str) -> tuple[str, ...]:
        return (
            *("pairs", "build", "--understanding", str(self.raw / "u.jsonl")),
            *("--generation", str(self.raw / "g.jsonl"), "--out", str(self.root / "built")),
            *("--encoder", f"policy:{self.model}", "--clusters", "1", "--annotator", "scene", *words),
        )

    def train(self, *words: str) -> tuple[str, ...]:
        return ("train", str(self.recipe), "--out", str(self.root / "run"), *words)


def write_lines(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }

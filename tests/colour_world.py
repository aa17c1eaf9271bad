"""A small world of raw data, noisy images of one colour, with an annotator and an encoder that build it quickly."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pairuni.config import PairsSettings
from pairuni.pairug.build import BuildSummary, build_pairs
from pairuni.records import GenerationSample, Quadruple, UnderstandingSample, Verdict

COLOURS = {"red": (220, 30, 20), "green": (20, 200, 60), "blue": (30, 40, 230), "grey": (128, 128, 128)}


class Template:
    """The caption repeats the answer; the question asks for the last word of the prompt. Refuses 'grey'."""

    def caption(self, sample: UnderstandingSample, feedback: str | None) -> str:
        return f"an image, and the answer is {sample.answer}"

    def question(self, sample: GenerationSample, feedback: str | None) -> tuple[str, str]:
        return "what is it?", sample.prompt.split()[-1]

    def verify(self, quadruple: Quadruple) -> Verdict:
        return Verdict(ok=quadruple.answer != "grey", reason="grey is no colour")


def small(images: Sequence[Image.Image]) -> np.ndarray:
    """An image's own pixels at 4x4, without their common mean."""
    rows = [np.asarray(image.resize((4, 4)), np.float32).reshape(-1) / 255 for image in images]
    return np.stack(rows) - 0.2


def world(folder: Path, count: int = 40, seed: int = 0) -> PairsSettings:
    """``count`` samples of each corpus: noisy images of one colour."""
    rng = np.random.default_rng(seed)
    for corpus in ("u", "g"):
        (folder / corpus / "images").mkdir(parents=True)
        rows = []
        for number in range(count):
            name = list(COLOURS)[number % 3]
            noise = rng.normal(0, 40, (8, 8, 3))
            pixels = np.clip(np.array(COLOURS[name]) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / corpus / "images" / f"{number}.png")
            half = {"question": "colour?", "answer": name} if corpus == "u" else {"prompt": f"all {name}"}
            rows.append(
                {"id": f"{corpus}{number}", "image_path": f"images/{number}.png", "tag": name, **half}
            )
        write_rows(folder / corpus / "data.jsonl", rows)
    return PairsSettings(
        understanding=folder / "u" / "data.jsonl",
        generation=folder / "g" / "data.jsonl",
        out=folder / "pairug",
        batch_size=8,
        clusters=5,
    )


def write_rows(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def build(settings: PairsSettings, **changes: Any) -> BuildSummary:
    return build_pairs(settings, **{"encoder": small, "annotator": Template(), **changes})


def files_of(out: Path) -> dict[str, bytes]:
    """The files of a data set, without its images and cache."""
    return {path.name: path.read_bytes() for path in out.glob("*.*")}

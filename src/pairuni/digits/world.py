"""Raw understanding and generation data of the digits world on disk, and held-out items."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pairuni.digits.language import Request, caption, sentence
from pairuni.digits.prompts import PROMPT_KINDS, PromptKind, random_request, scene_for
from pairuni.digits.questions import STANDARD, Question, QuestionKind, QuestionSet, random_question
from pairuni.digits.scenes import Scene, Split, random_scene, render_image, split_of
from pairuni.io.files import write_text


@dataclass(frozen=True)
class World:
    """Paths of the raw data: two JSONL files, each with its images next to it."""

    understanding: Path
    generation: Path


@dataclass(frozen=True)
class Asked:
    """A held-out understanding item."""

    image: Image.Image
    question: Question


@dataclass(frozen=True)
class Prompted:
    """A held-out generation item."""

    kind: PromptKind
    request: Request

    @property
    def prompt(self) -> str:
        return sentence(self.request)


@dataclass(frozen=True)
class HeldOut:
    """Items of held-out scenes, scans and prompts, the same number of every kind."""

    understanding: list[Asked]
    generation: list[Prompted]


def write_world(
    folder: str | Path, *, seed: int, understanding: int, generation: int, questions: QuestionSet = STANDARD
) -> World:
    """Write random raw training data to ``folder``: images and JSONL for the usual readers.

    understanding, generation: numbers of samples. questions: of the understanding samples. Every record has its
    scene under the key ``scene``, which the scene annotators read where the paper queries a vision-language model.
    """
    rng = np.random.default_rng([seed, 0])
    root = Path(folder)
    world = World(root / "understanding" / "data.jsonl", root / "generation" / "data.jsonl")
    _write(world.understanding, _understanding_records(rng, understanding, questions), rng)
    _write(world.generation, _generation_records(rng, generation), rng)
    return world


def held_out_items(seed: int, count: int, questions: QuestionSet = STANDARD) -> HeldOut:
    """``count`` items per task from held-out scenes and prompts, rendered with held-out scans."""
    rng = np.random.default_rng([seed, 1])
    asked = []
    for row in range(count):
        scene, question = _scene_and_question(rng, questions, row, "held-out")
        asked.append(Asked(render_image(scene, rng), question))
    kinds = [PROMPT_KINDS[row % len(PROMPT_KINDS)] for row in range(count)]
    prompted = [Prompted(kind, random_request(rng, kind, "held-out")) for kind in kinds]
    return HeldOut(asked, prompted)


def _understanding_records(
    rng: np.random.Generator, count: int, questions: QuestionSet
) -> Iterator[tuple[Scene, dict[str, Any]]]:
    for row in range(count):
        scene, question = _scene_and_question(rng, questions, row, "train")
        yield scene, {"question": question.text, "answer": question.answer, "tag": question.kind}


def _generation_records(rng: np.random.Generator, count: int) -> Iterator[tuple[Scene, dict[str, Any]]]:
    for row in range(count):
        kind = PROMPT_KINDS[row % len(PROMPT_KINDS)]
        request = random_request(rng, kind, "train")
        yield scene_for(request, rng, "train"), {"prompt": sentence(request), "tag": kind}


def _scene_and_question(
    rng: np.random.Generator, questions: QuestionSet, row: int, split: Split
) -> tuple[Scene, Question]:
    """A scene of ``split`` and a question about it, of the kind that row ``row`` of the data has.

    A training scene's caption becomes a prompt in PairUG, so it must not be a held-out prompt.
    """
    kind: QuestionKind = questions.kinds[row % len(questions.kinds)]
    counts = (2,) if kind == "add" else (1, 2, 3, 4)
    while True:
        scene = random_scene(rng, split, counts)
        question = random_question(rng, scene, kind, multiple_choice=rng.random() < questions.multiple_choice)
        if question is not None and (split == "held-out" or split_of(caption(scene)) == "train"):
            return scene, question


def _write(path: Path, records: Iterator[tuple[Scene, dict[str, Any]]], rng: np.random.Generator) -> None:
    images = path.parent / "images"
    images.mkdir(parents=True, exist_ok=True)
    lines = []
    for row, (scene, fields) in enumerate(records):
        name = f"{row:05d}.png"
        render_image(scene, rng).save(images / name)
        record = {"id": f"{path.parent.name}-{row:05d}", "image_path": f"images/{name}", **fields}
        lines.append(json.dumps({**record, "scene": scene.to_json()}))
    write_text(path, "\n".join(lines) + "\n")

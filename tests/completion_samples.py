"""Samples to complete: real ones where the shared data are present, else made images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from chat_server import ChatServer
from pairuni.chat.endpoint import Endpoint
from pairuni.config import CompletionSettings
from pairuni.pairug.completion.annotator import Annotator
from pairuni.pairug.completion.answer_store import AnswerStore
from pairuni.pairug.completion.completion import CompletionReport, outcomes_of, report_of
from pairuni.pairug.completion.dialogue import Sample
from pairuni.pairug.completion.model_annotator import ModelAnnotator
from pairuni.records import GenerationSample, UnderstandingSample
from source_data import lines

DATA = Path(__file__).parents[1].parent / "shared" / "data"


def real_samples(count: int) -> list[Sample] | None:
    """PuzzleVQA and NLVR to understand, COCO captions and PuzzleVQA captions to draw; None without the data."""
    if not DATA.is_dir():
        return None
    puzzles, scenes = (
        [json.loads(line) for line in (DATA / folder / file).read_text().splitlines()[:count]]
        for folder, file in (("puzzlevqa", "color_grid.jsonl"), ("nlvr_dev", "dev.jsonl"))
    )
    photos = [json.loads(line) for line in (DATA / "coco_by" / "photos.jsonl").read_text().splitlines()]
    samples: list[Sample] = []
    for number in range(count // 4):
        puzzle, scene, photo = puzzles[number], scenes[number], photos[number % len(photos)]
        place = str(DATA / "puzzlevqa" / puzzle["image"])
        samples += [
            UnderstandingSample(
                id=f"puzzle{number}",
                image_path=place,
                question=puzzle["question"],
                answer=str(puzzle["answer"]),
                tag="puzzle",
            ),
            UnderstandingSample(
                id=f"scene{number}",
                image_path=str(DATA / "nlvr_dev" / scene["image"]),
                question=f"Is this true? {scene['sentence']}",
                answer=str(scene["label"]),
                tag="nlvr",
            ),
            GenerationSample(
                id=f"photo{number}",
                image_path=str(DATA / "coco_by" / photo["image"]),
                prompt=photo["captions"][number // len(photos)].strip(),
                tag="coco",
            ),
            GenerationSample(id=f"drawn{number}", image_path=place, prompt=puzzle["caption"], tag="puzzle"),
        ]
    return samples


def made_samples(folder: Path, count: int) -> list[Sample]:
    """Noise-free images of one colour each, half of them with a question and half with a prompt."""
    folder.mkdir(parents=True, exist_ok=True)
    samples: list[Sample] = []
    for number in range(count):
        path = folder / f"{number}.png"
        Image.new("RGB", (24, 16), (7 * number % 256, 99, 30)).save(path)
        values = {"id": f"s{number}", "image_path": str(path), "tag": f"t{number % 3}"}
        if number % 2:
            samples.append(
                UnderstandingSample(**values, question=f"Which number, {number}?", answer=f"no {number}")
            )
        else:
            samples.append(GenerationSample(**values, prompt=f"a plain field with the number n{number}"))
    return samples


def corpora(folder: Path, count: int) -> list[str]:
    """``made_samples`` as files, and the options of the build that reads them."""
    rows: dict[str, list[dict[str, Any]]] = {"u": [], "g": []}
    for sample in made_samples(folder / "raw", count):
        row = {**sample.model_dump(), "image_path": Path(sample.image_path).name}
        rows["u" if "question" in row else "g"].append(row)
    u, g = (lines(folder / "raw" / f"{name}.jsonl", *found) for name, found in rows.items())
    return [f"--understanding={u}", f"--generation={g}", f"--out={folder / 'out'}"]


def complete(
    samples: Sequence[Sample],
    annotator: Annotator | ModelAnnotator,
    max_tries: int,
    *,
    store: AnswerStore,
) -> CompletionReport:
    """Complete samples as a build does, without its files."""
    return report_of(samples, outcomes_of(samples, annotator, max_tries, store=store), seed=0)


def complete_at(
    server: ChatServer, folder: Path, samples: list[Any], max_tries: int = 3, **settings: Any
) -> CompletionReport:
    """Complete samples at a server, with quick retries; answers stay in the folder."""
    chosen = CompletionSettings(**{"model": "seer", "base_url": server.url, "timeout": 5.0, **settings})
    annotator = ModelAnnotator("endpoint", chosen, Endpoint(chosen, backoff=0.01))
    store = AnswerStore(folder / "cache" / "answers.jsonl")
    try:
        return complete(samples, annotator, max_tries, store=store)
    finally:
        store.close()

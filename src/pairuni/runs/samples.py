"""samples/: images and answers of rollouts, with their rewards and advantages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from pydantic import Field

from pairuni.io.files import atomic_write
from pairuni.records import UGPair
from pairuni.runs.folder import RunFolder, step_name
from pairuni.runs.metrics import MetricsLog
from pairuni.runs.reading import Count, Number, Part, checked, read_rows


class RolloutImage(Part):
    """image: path relative to samples/."""

    image: str
    reward: Number | None = None


class RolloutAnswer(Part):
    text: str
    reward: Number | None = None


class Sample(Part):
    """A line of samples.jsonl: a pair and the rollouts of both tasks."""

    step: Count
    similarity: Number
    prompt: str = ""
    question: str = ""
    answer: str = ""
    images: list[RolloutImage] = Field(default_factory=list, validation_alias="pictures")
    answers: list[RolloutAnswer] = Field(default_factory=list)


def read_samples(path: Path) -> list[Sample]:
    """The lines of samples.jsonl; none if it is missing. Raises ValueError naming file and line."""
    return [sample_row(where, row) for where, row in read_rows(path)]


def sample_row(where: str, row: dict[str, Any]) -> Sample:
    """A line of samples.jsonl. Raises ValueError, which begins with ``where``."""
    return checked(Sample, row, where)


def write_sample(
    run: RunFolder,
    pair: UGPair,
    *,
    step: int,
    index: int,
    pair_weight: float,
    images: Sequence[tuple[Image.Image, Mapping[str, Any]]],
    answers: Sequence[tuple[str, Mapping[str, Any]]],
) -> None:
    """Write one pair of a step: PNGs in ``samples/step-<step>``, and a line of samples.jsonl.

    index: the pair's place in the step. Each image and answer comes with the further keys of its entry, such as
    reward and advantage.
    """
    entries = []
    for rollout, (image, further) in enumerate(images):
        file = run.samples / step_name(step) / f"{index}-{rollout}.png"
        save_png(image, file)
        entries.append({"image": file.relative_to(run.samples).as_posix(), **further})
    MetricsLog(run.samples_log).append(
        {
            "step": step,
            "similarity": pair.similarity,
            "pair_weight": pair_weight,
            "kind": pair.kind,
            "prompt": pair.generate_ann.prompt,
            "pictures": entries,
            **pair.understand_ann.model_dump(include={"image_path", "image_paths"}),
            "question": pair.understand_ann.question,
            "answer": pair.understand_ann.answer,
            "answers": [{"text": text, **further} for text, further in answers],
        }
    )


def save_png(image: Image.Image, path: Path) -> None:
    with atomic_write(path) as partial:
        image.save(partial, format="PNG")

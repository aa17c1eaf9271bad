"""The held-out score of a policy on both tasks; images are scored by the evaluation detector."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from pairuni.digits.detectors import evaluation_detector
from pairuni.digits.prompts import satisfies
from pairuni.digits.questions import LETTER_SUFFIX
from pairuni.digits.world import Asked, HeldOut, Prompted
from pairuni.distributed.shares import cut
from pairuni.distributed.world import World
from pairuni.intervals import wilson_interval
from pairuni.io.files import write_text
from pairuni.policies.policy import ImageSampling, TextSampling, UnifiedPolicy
from pairuni.records import Annotation
from pairuni.rewards.answers.accuracy import AccuracyReward

BATCH = 102
"""Batch size. The noise of an image depends on its position in the batch, so scores depend on this value."""
MAX_NEW_TOKENS = 8
_SHOWN = 60
"""Number of items per task whose images are saved."""


@dataclass(frozen=True)
class Marked:
    """One scored item: question or prompt, expected answer, reply, and whether it is correct."""

    kind: str
    asked: str
    expected: str
    reply: str
    correct: bool
    image: Image.Image


@dataclass(frozen=True)
class Evaluation:
    """The scored items of both tasks, in the order of the held-out items."""

    understanding: list[Marked]
    generation: list[Marked]

    def scores(self) -> dict[str, float]:
        """Accuracy by task. Kinds have equally many items, so it is also the mean over kinds."""
        return {"understanding": _score(self.understanding), "generation": _score(self.generation)}

    def write(self, folder: Path, name: str) -> None:
        """Write ``<name>.json`` and the images of the first items to ``folder``, inside a run's folder.

        Image paths in the file are relative to ``folder.parent``, the run.
        """
        (folder / name).mkdir(parents=True, exist_ok=True)
        result = {
            task: {**_summary(items), "items": _rows(items, folder, name, task)}
            for task, items in (("understanding", self.understanding), ("generation", self.generation))
        }
        result["understanding"]["by_form"] = _scores_by(self.understanding, _form)
        write_text(folder / f"{name}.json", json.dumps(result, indent=1) + "\n")


def evaluate(
    policy: UnifiedPolicy,
    items: HeldOut,
    *,
    guidance: float,
    seed: int,
    advance: Callable[[int], None] | None = None,
    world: World | None = None,
) -> Evaluation:
    """Answer every held-out question greedily and generate one image per held-out prompt at temperature 1.

    advance: called with the number of items done since the last call. world: its ranks share out the items, and each
    of them returns all.
    """
    world = world or World()
    advance = advance or (lambda items: None)
    replies: list[str] = []
    for places in cut(world.share.of(len(items.understanding)), BATCH):
        asked = items.understanding[places.start : places.stop]
        first = places.start % BATCH
        groups = policy.sample_text(
            TextSampling(
                images=[one.image for one in asked],
                questions=[one.question.text for one in asked],
                temperature=0.0,
                max_new_tokens=MAX_NEW_TOKENS,
                seed=seed + places.start - first,
                first_prompt=first,
            )
        )
        replies += [group[0].text for group in groups]
        advance(len(asked))
    marked: list[Marked] = []
    for places in cut(world.share.of(len(items.generation)), BATCH):
        prompted = items.generation[places.start : places.stop]
        first = places.start % BATCH
        sampled = policy.sample_images(
            ImageSampling(
                prompts=[one.prompt for one in prompted],
                guidance=guidance,
                seed=seed + places.start - first,
                first_prompt=first,
            )
        )
        marked += mark_images(prompted, policy.decode_images([group[0] for group in sampled]))
        advance(len(prompted))
    parts = world.gather((replies, marked))
    all_replies = [reply for replies, _ in parts for reply in replies]
    return Evaluation(
        mark_replies(items.understanding, all_replies), [one for _, marked in parts for one in marked]
    )


def mark_replies(asked: Sequence[Asked], replies: Sequence[str]) -> list[Marked]:
    """Score each reply with the accuracy reward."""
    said = [reply.strip() for reply in replies]
    records = [
        Annotation(image_path="-", prompt="-", question=one.question.text, answer=one.question.answer)
        for one in asked
    ]
    return [
        Marked(one.question.kind, one.question.text, one.question.answer, reply, score == 1.0, one.image)
        for one, reply, score in zip(asked, said, AccuracyReward()(records, said), strict=True)
    ]


def mark_images(prompted: Sequence[Prompted], images: Sequence[Image.Image]) -> list[Marked]:
    """Score each image: correct if the evaluation detector reads exactly what the prompt requires."""
    readings = evaluation_detector().read(images)
    return [
        Marked(
            one.kind,
            one.prompt,
            one.prompt,
            reading.words,
            reading.scene is not None and satisfies(reading.scene, one.request),
            image,
        )
        for one, image, reading in zip(prompted, images, readings, strict=True)
    ]


def _score(items: Sequence[Marked]) -> float:
    return sum(item.correct for item in items) / len(items)


def _summary(items: Sequence[Marked]) -> dict[str, Any]:
    return {**_counted(items), "by_kind": _scores_by(items, lambda item: item.kind)}


def _counted(items: Sequence[Marked]) -> dict[str, Any]:
    return {
        "score": _score(items),
        "count": len(items),
        "interval": wilson_interval(_score(items), len(items)),
    }


def _form(item: Marked) -> str:
    return "options" if item.asked.endswith(LETTER_SUFFIX) else "open"


def _scores_by(items: Sequence[Marked], name: Callable[[Marked], str]) -> dict[str, dict[str, Any]]:
    groups: dict[str, list[Marked]] = {}
    for item in items:
        groups.setdefault(name(item), []).append(item)
    return {key: _counted(group) for key, group in groups.items()}


def _rows(items: Sequence[Marked], folder: Path, name: str, task: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for index, item in enumerate(items):
        row: dict[str, Any] = {"kind": item.kind, "correct": item.correct, "reply": item.reply}
        if task == "understanding":
            row |= {"question": item.asked, "answer": item.expected}
        else:
            row |= {"prompt": item.asked}
        if index < _SHOWN:
            file = folder / name / f"{task}-{index:03d}.png"
            item.image.save(file)
            row["image"] = str(file.relative_to(folder.parent))
        rows.append(row)
    return rows

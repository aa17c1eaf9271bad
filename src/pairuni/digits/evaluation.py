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
from pairuni.digits.reading import reads_right
from pairuni.digits.world import Asked, HeldOut, Prompted
from pairuni.distributed.shares import cut
from pairuni.distributed.world import World
from pairuni.intervals import wilson_interval
from pairuni.io.files import write_text
from pairuni.policies.policy import UnifiedPolicy
from pairuni.policies.requests import ImageSampling, TextSampling
from pairuni.records import Annotation
from pairuni.rewards.answers.accuracy import AccuracyReward

BATCH = 102
"""Batch size. The noise of an image depends on its position in the batch, so scores depend on this value."""
MAX_NEW_TOKENS = 8
_SHOWN = 60
"""Number of items per task whose images are saved."""


@dataclass(frozen=True)
class Marked:
    """One scored item: question or prompt, expected answer, reply, and whether it is correct.

    reads: whether the words of a reply give the right answer, whatever its letter; None for a prompt.
    """

    kind: str
    asked: str
    expected: str
    reply: str
    correct: bool
    image: Image.Image
    reads: bool | None = None

    @property
    def form(self) -> str:
        """Whether a question is open or has options."""
        return "options" if self.asked.endswith(LETTER_SUFFIX) else "open"


@dataclass(frozen=True)
class Evaluation:
    """The scored items of both tasks, in the order of the held-out items."""

    understanding: list[Marked]
    generation: list[Marked]

    def scores(self) -> dict[str, float]:
        """Accuracy by task. Kinds have equally many items, so it is also the mean over kinds."""
        return {
            "understanding": share_correct(self.understanding),
            "generation": share_correct(self.generation),
        }

    def write(self, folder: Path, name: str) -> None:
        """Write ``<name>.json`` and the images of the first items to ``folder``, inside a run's folder.

        Image paths in the file are relative to ``folder.parent``, the run.
        """
        (folder / name).mkdir(parents=True, exist_ok=True)
        result = {
            task: {**_summary(items), "items": _rows(items, folder, name, task)}
            for task, items in (("understanding", self.understanding), ("generation", self.generation))
        }
        result["understanding"]["by_form"] = {
            form: {**_counted(items), "reading_score": share_reading(items)}
            for form, items in grouped(self.understanding, lambda item: item.form).items()
        }
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
    """Score each reply with the accuracy reward, and its words alone."""
    said = [reply.strip() for reply in replies]
    records = [
        Annotation(image_path="-", prompt="-", question=one.question.text, answer=one.question.answer)
        for one in asked
    ]
    marked = []
    for one, reply, score in zip(asked, said, AccuracyReward()(records, said), strict=True):
        kind, text, answer = one.question.kind, one.question.text, one.question.answer
        reads = reads_right(text, answer, reply, score == 1.0)
        marked.append(Marked(kind, text, answer, reply, score == 1.0, one.image, reads))
    return marked


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


def share_correct(items: Sequence[Marked]) -> float:
    """The share of correct items, in [0, 1]."""
    return sum(item.correct for item in items) / len(items)


def share_reading(items: Sequence[Marked]) -> float:
    """The share of questions whose reply has the right words, in [0, 1]."""
    return sum(item.reads is True for item in items) / len(items)


def grouped(items: Sequence[Marked], name: Callable[[Marked], str]) -> dict[str, list[Marked]]:
    """Items by a name, such as their kind, in the order in which the names first occur."""
    groups: dict[str, list[Marked]] = {}
    for item in items:
        groups.setdefault(name(item), []).append(item)
    return groups


def _summary(items: Sequence[Marked]) -> dict[str, Any]:
    kinds = grouped(items, lambda item: item.kind)
    return {**_counted(items), "by_kind": {kind: _counted(group) for kind, group in kinds.items()}}


def _counted(items: Sequence[Marked]) -> dict[str, Any]:
    return {
        "score": share_correct(items),
        "count": len(items),
        "interval": wilson_interval(share_correct(items), len(items)),
    }


def _rows(items: Sequence[Marked], folder: Path, name: str, task: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for index, item in enumerate(items):
        row: dict[str, Any] = {"kind": item.kind, "correct": item.correct, "reply": item.reply}
        if task == "understanding":
            row |= {"question": item.asked, "answer": item.expected, "form": item.form, "reads": item.reads}
        else:
            row |= {"prompt": item.asked}
        if index < _SHOWN:
            file = folder / name / f"{task}-{index:03d}.png"
            item.image.save(file)
            row["image"] = str(file.relative_to(folder.parent))
        rows.append(row)
    return rows

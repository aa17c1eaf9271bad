"""The held-out score of a policy on image editing, by the evaluation detector.

An edit is correct if its instruction is followed and the rest of the scene is kept: the same digits in the same
colours and places. Handwriting and position within a place may change. About 1.5% of ideal edits are marked as wrong,
because the detector misreads some handwriting; docs/digits.md has the measurement.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from pairuni.digits.detectors import Reading, evaluation_detector
from pairuni.digits.edits import Edit, EditKind, Instructed
from pairuni.digits.evaluation import BATCH
from pairuni.digits.language import caption
from pairuni.digits.scenes import PLACES, Scene
from pairuni.distributed.shares import cut
from pairuni.distributed.world import World
from pairuni.intervals import wilson_interval
from pairuni.io.files import write_text
from pairuni.policies.policy import UnifiedPolicy
from pairuni.policies.requests import EditSampling

PARTS = {"followed": "instruction followed", "kept": "rest kept"}
"""What a correct edit consists of: attributes of ``MarkedEdit``, and their names."""
_SHOWN = 60
"""Number of items whose images are saved."""


@dataclass(frozen=True)
class MarkedEdit:
    """One scored edit. image: what the policy made of the item; reply: what the detector reads in it."""

    item: Instructed
    image: Image.Image
    reply: str
    followed: bool
    kept: bool

    @property
    def correct(self) -> bool:
        return self.followed and self.kept


@dataclass(frozen=True)
class EditEvaluation:
    """The scored edits, in the order of the held-out items."""

    edits: list[MarkedEdit]

    def by_kind(self) -> dict[EditKind, list[MarkedEdit]]:
        """The edits of each kind, in the order in which the kinds first occur."""
        groups: dict[EditKind, list[MarkedEdit]] = {}
        for one in self.edits:
            groups.setdefault(one.item.edit.kind, []).append(one)
        return groups

    def write(self, folder: Path, name: str) -> None:
        """Write ``<name>.json`` and the images of the first items, before and after, to ``folder``.

        Image paths in the file are relative to ``folder.parent``, the run.
        """
        (folder / name).mkdir(parents=True, exist_ok=True)
        result = {
            **_summary(self.edits),
            "by_kind": {kind: _summary(found) for kind, found in self.by_kind().items()},
            "items": [_row(one, index, folder, name) for index, one in enumerate(self.edits)],
        }
        write_text(folder / f"{name}.json", json.dumps(result, indent=1) + "\n")


def evaluate_edits(
    policy: UnifiedPolicy,
    items: Sequence[Instructed],
    *,
    guidance: float,
    image_guidance: float,
    seed: int,
    advance: Callable[[int], None] | None = None,
    world: World | None = None,
) -> EditEvaluation:
    """Edit every image once at temperature 1 and score the edits.

    advance: called with the number of items done since the last call. world: its ranks share out the items, and each
    of them returns all. Raises ValueError if the policy cannot edit images.
    """
    world = world or World()
    marked: list[MarkedEdit] = []
    for places in cut(world.share.of(len(items)), BATCH):
        batch = items[places.start : places.stop]
        first = places.start % BATCH
        sampled = policy.sample_edits(
            EditSampling(
                images=[one.image for one in batch],
                instructions=[one.edit.instruction for one in batch],
                guidance=guidance,
                image_guidance=image_guidance,
                seed=seed + places.start - first,
                first_prompt=first,
            )
        )
        marked += mark_edits(batch, policy.decode_images([group[0] for group in sampled]))
        if advance is not None:
            advance(len(batch))
    return EditEvaluation([one for part in world.gather(marked) for one in part])


def mark_edits(items: Sequence[Instructed], images: Sequence[Image.Image]) -> list[MarkedEdit]:
    """Score each edited image by what the evaluation detector reads in it."""
    marked = []
    for item, image, reading in zip(items, images, evaluation_detector().read(images), strict=True):
        wrong = wrong_places(reading, item.edit.target)
        changed = item.edit.place
        marked.append(MarkedEdit(item, image, reading.words, changed not in wrong, wrong <= {changed}))
    return marked


def wrong_places(reading: Reading, wanted: Scene) -> set[str]:
    """The places where a reading is not what the scene has there: another digit or colour, too much or too little."""
    found = {seen.place: (seen.digit, seen.colour) for seen in reading.things}
    asked = {thing.place: (thing.digit, thing.colour) for thing in wanted.things}
    return {place for place in PLACES if found.get(place) != asked.get(place)}


def score_of(edits: Sequence[MarkedEdit], part: str = "correct") -> float:
    """The share of edits that are "correct", "followed" or "kept", in [0, 1]."""
    return sum(getattr(one, part) for one in edits) / len(edits)


def _summary(edits: Sequence[MarkedEdit]) -> dict[str, Any]:
    def scored(part: str) -> dict[str, Any]:
        score = score_of(edits, part)
        return {"score": score, "interval": wilson_interval(score, len(edits))}

    return {**scored("correct"), "count": len(edits), **{part: scored(part) for part in PARTS}}


def _row(one: MarkedEdit, index: int, folder: Path, name: str) -> dict[str, Any]:
    edit: Edit = one.item.edit
    row: dict[str, Any] = {
        "kind": edit.kind,
        "instruction": edit.instruction,
        "source": caption(edit.source),
        "target": caption(edit.target),
        "reply": one.reply,
        "correct": one.correct,
        **{part: getattr(one, part) for part in PARTS},
    }
    if index < _SHOWN:
        for key, image, end in (("source_image", one.item.image, "-source"), ("image", one.image, "")):
            file = folder / name / f"edit-{index:03d}{end}.png"
            image.save(file)
            row[key] = str(file.relative_to(folder.parent))
    return row

"""Samples of a run as pictures."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from pairuni.io.images import load_image
from pairuni.runs.folder import RunFolder
from pairuni.runs.samples import Sample
from pairuni.trackers.tracker import Picture

_SIDE = 256
"""Largest side of an image in a picture, in pixels."""


def pictures_of(run: RunFolder, samples: Sequence[Sample]) -> list[Picture]:
    """A picture for each sample of a step that has images, with prompt, question, answers and rewards as caption.

    Images that were deleted are left out. Raises ImageError for one that cannot be read.
    """
    pictures = []
    for number, sample in enumerate(samples):
        paths = [run.samples / one.image for one in sample.images]
        images = [load_image(path) for path in paths if path.is_file()]
        if images:
            pictures.append(Picture(f"samples/{number}", _side_by_side(images), _caption(sample)))
    return pictures


def _side_by_side(images: Sequence[Image.Image]) -> Image.Image:
    for image in images:
        image.thumbnail((_SIDE, _SIDE))
    row = Image.new("RGB", (sum(image.width for image in images), max(image.height for image in images)))
    left = 0
    for image in images:
        row.paste(image, (left, 0))
        left += image.width
    return row


def _caption(sample: Sample) -> str:
    lines = [sample.prompt, "rewards " + " ".join(_shown(one.reward) for one in sample.images)]
    if sample.answers:
        lines.append(f"{sample.question} ({sample.answer})")
        lines += [f"{_shown(one.reward)} {one.text}" for one in sample.answers]
    return "\n".join(lines)


def _shown(reward: float | None) -> str:
    return "-" if reward is None else f"{reward:.3f}"

"""A model's replies and images for a benchmark's items, in batches; recorded items are never run again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from pairuni.evaluation.model import Model
from pairuni.evaluation.question_images import ImageSource, one_image, question_images
from pairuni.evaluation.run_folder import Run, process_batches
from pairuni.io.files import atomic_write
from pairuni.policies.requests import EditSampling, ImageSampling, QuestionImages, TextSampling

_WRITERS = 8
"""Threads that save images."""


@dataclass(frozen=True)
class QuestionItem:
    """A question about images. key: the reply is recorded under it."""

    key: str
    images: tuple[ImageSource, ...]
    question: str


@dataclass(frozen=True)
class PromptItem:
    """A prompt and the files of its images. key: they are recorded under it."""

    key: str
    prompt: str
    files: tuple[Path, ...]


@dataclass(frozen=True)
class EditItem:
    """An instruction for an image, and the file of the edited image. key: it is recorded under it."""

    key: str
    image: ImageSource
    instruction: str
    file: Path


def answer_questions(
    model: Model,
    items: Sequence[QuestionItem],
    run: Run,
    *,
    max_new_tokens: int,
    title: str,
    joined: bool = True,
) -> None:
    """Record this process's greedy replies: {"reply", "finished"}; finished is false for a truncated reply.

    joined: several images of a question are shown as one.
    """

    def answer(batch: Sequence[QuestionItem], start: int) -> dict[str, Any]:
        images = _load_images(batch, joined)
        groups = model.policy.sample_text(
            TextSampling(
                images=[images[item.images] for item in batch],
                questions=[item.question for item in batch],
                temperature=0.0,
                max_new_tokens=max_new_tokens,
            )
        )
        return {
            item.key: {"reply": group[0].text, "finished": group[0].finished}
            for item, group in zip(batch, groups, strict=True)
        }

    process_batches(items, run, size=model.batch_size, work=answer, key=lambda item: item.key, title=title)


def generate_images(
    model: Model,
    items: Sequence[PromptItem],
    run: Run,
    *,
    title: str,
    seed_of: Callable[[int, int], int] | None = None,
) -> None:
    """Write this process's images, then record {"guidance"} for each prompt.

    Recorded images that no longer exist are generated again, identically. seed_of: the seed of a batch from the
    run's seed and the index of the batch's first prompt.
    """
    seed_of = seed_of or _batch_seed
    run.lost |= _lost(run, {item.key: item.files for item in items})

    def generate(batch: Sequence[PromptItem], start: int) -> dict[str, Any]:
        policy = model.policy
        guidance = policy.default_guidance if model.guidance is None else model.guidance
        groups = policy.sample_images(
            ImageSampling(
                prompts=[item.prompt for item in batch],
                rollouts=len(batch[0].files),
                temperature=model.temperature,
                guidance=guidance,
                seed=seed_of(model.seed, start),
            )
        )
        images = policy.decode_images([trajectory for group in groups for trajectory in group])
        _save([path for item in batch for path in item.files], images)
        return {item.key: {"guidance": guidance} for item in batch}

    rollouts = len(items[0].files) if items else 1
    size = max(1, model.batch_size // rollouts)
    process_batches(items, run, size=size, work=generate, key=lambda item: item.key, title=title)


def edit_images(
    model: Model,
    items: Sequence[EditItem],
    run: Run,
    *,
    title: str,
    seed_of: Callable[[int, int], int] | None = None,
) -> None:
    """Write this process's edited images, then record {"guidance", "image guidance"} for each; see
    ``generate_images``.
    """
    seed_of = seed_of or _batch_seed
    run.lost |= _lost(run, {item.key: (item.file,) for item in items})

    def edit(batch: Sequence[EditItem], start: int) -> dict[str, Any]:
        policy = model.policy
        used = {
            "guidance": policy.default_edit_guidance if model.guidance is None else model.guidance,
            "image guidance": (
                policy.default_image_guidance if model.image_guidance is None else model.image_guidance
            ),
        }
        groups = policy.sample_edits(
            EditSampling(
                images=[_load_source(item) for item in batch],
                instructions=[item.instruction for item in batch],
                temperature=model.temperature,
                guidance=used["guidance"],
                image_guidance=used["image guidance"],
                seed=seed_of(model.seed, start),
            )
        )
        _save([item.file for item in batch], policy.decode_images([group[0] for group in groups]))
        return {item.key: used for item in batch}

    process_batches(items, run, size=model.batch_size, work=edit, key=lambda item: item.key, title=title)


def _lost(run: Run, files: Mapping[str, Sequence[Path]]) -> set[str]:
    """The recorded keys of which a file no longer exists."""
    return {key for key, paths in files.items() if key in run and not all(path.is_file() for path in paths)}


def _load_source(item: EditItem) -> Image.Image:
    try:
        image = one_image([item.image])
    except ValueError as error:
        raise ValueError(f"edit {item.key}: {error}") from None
    assert image is not None
    return image


def _load_images(
    items: Sequence[QuestionItem], joined: bool
) -> dict[tuple[ImageSource, ...], QuestionImages]:
    """The images of each question, loaded once. Raises ValueError naming a question whose image cannot be read."""
    loaded: dict[tuple[ImageSource, ...], QuestionImages] = {}
    for item in items:
        if item.images not in loaded:
            try:
                loaded[item.images] = question_images(item.images, joined=joined)
            except ValueError as error:
                raise ValueError(f"question {item.key}: {error}") from None
    return loaded


def _save(paths: Sequence[Path], images: Sequence[Image.Image]) -> None:
    with ThreadPoolExecutor(_WRITERS) as writers:
        list(writers.map(_save_one, paths, images))


def _save_one(path: Path, image: Image.Image) -> None:
    # the GPU waits, and compressing an image well takes as long as generating part of it
    with atomic_write(path) as partial:
        image.save(partial, format="PNG", compress_level=1)


def _batch_seed(seed: int, start: int) -> int:
    """A seed for each batch, far from those of other batches and other runs."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{start}".encode()).digest()[:6], "big")

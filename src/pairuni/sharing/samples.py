"""Samples of a shared model: images of prompts, and answers. Images of questions are data and are left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pairuni.io.images import load_image
from pairuni.io.paths import path_fault
from pairuni.runs.evaluations import Item
from pairuni.runs.samples import save_png
from pairuni.sharing.source import Source

SAMPLES = "samples"
MOST = 8


@dataclass(frozen=True)
class Samples:
    """images: (prompt, path relative to the shared folder); answers: (question, reply, expected answer). origin: what
    they are, for the card."""

    images: Sequence[tuple[str, str]]
    answers: Sequence[tuple[str, str, str]]
    origin: str


def write_samples(source: Source, folder: Path) -> Samples:
    """Write the first images of the last evaluation of the shared step, or of its last logged rollouts.

    They are the first ones, not the best, and are re-encoded without metadata.
    """
    images, answers, origin = _evaluated(source) or _rollouts(source)
    found = [(prompt, path) for prompt, path in images if path_fault(source.run.folder.root, path) is None]
    written = []
    for number, (prompt, path) in enumerate(found[:MOST]):
        target = Path(SAMPLES) / f"{number}.png"
        save_png(load_image(source.run.folder.root / path), folder / target)
        written.append((prompt, target.as_posix()))
    return Samples(written, answers[:MOST], origin)


_Found = tuple[list[tuple[str, str]], list[tuple[str, str, str]], str]
"""Prompts with image paths relative to the run; questions, replies and answers; origin."""


def _evaluated(source: Source) -> _Found | None:
    run = source.run
    if source.is_final and run.after.generation is not None and run.after.understanding is not None:
        return _of_items(run.after.generation.items, run.after.understanding.items)
    for evaluation in run.step_evaluations:
        if evaluation.step == source.step:
            return _of_items(evaluation.generation.items, evaluation.understanding.items)
    return None


def _of_items(generation: Iterable[Item], understanding: Iterable[Item]) -> _Found:
    images = [(item.prompt, item.image) for item in generation if item.image]
    answers = [(item.question, item.reply, item.answer) for item in islice(understanding, MOST)]
    return images, answers, "The first held-out items after training"


def _rollouts(source: Source) -> _Found:
    run, root = source.run, source.run.folder.root
    steps = [sample.step for sample in run.samples if source.step is None or sample.step <= source.step]
    if not steps:
        return [], [], ""
    last = [sample for sample in run.samples if sample.step == max(steps)]
    prefix = run.folder.samples.relative_to(root).as_posix()
    images = [(one.prompt, f"{prefix}/{one.images[0].image}") for one in last if one.images]
    answers = [(one.question, one.answers[0].text, one.answer) for one in last if one.answers]
    return images, answers, f"Rollouts of step {max(steps)}, sampled in training"

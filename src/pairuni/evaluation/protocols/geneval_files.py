"""GenEval's files: prompts, the folder of images and the results of each image; and the score."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pairuni.evaluation.result import Result, part_of
from pairuni.evaluation.rows import as_lines, checked, read_rows, write_rows
from pairuni.intervals import bootstrap_interval
from pairuni.io.text import parse_json
from pairuni.rewards.composition.detection import Detection, Objects
from pairuni.rewards.composition.rules import Verdict

TASKS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
PROMPTS = 553


@dataclass(frozen=True)
class Judged:
    """One image's row of results.jsonl."""

    filename: str
    metadata: Mapping[str, Any]
    verdict: Verdict
    objects: Objects


def read_prompts(path: Path) -> list[dict[str, Any]]:
    """The metadata of every prompt, in order. Raises ValueError naming file and line of an invalid one."""
    rows = read_rows(path, tag=str, include=list, prompt=str)
    for row in rows:
        check_task(row["tag"], str(path))
    return rows


def check_task(task: str, where: str) -> None:
    """Raise ValueError, which begins with ``where``, unless this is one of the six tasks."""
    if task not in TASKS:
        raise ValueError(f"{where}: GenEval has no task {task!r}; known: {', '.join(TASKS)}")


def image_path(folder: Path, prompt: int, sample: int) -> Path:
    """The official path of an image; prompts and samples are counted from 0."""
    return folder / f"{prompt:05d}" / "samples" / f"{sample:05d}.png"


def write_prompt(folder: Path, prompt: int, metadata: Mapping[str, Any]) -> None:
    """Write metadata.jsonl next to a prompt's images unless it exists with this content."""
    path = folder / f"{prompt:05d}" / "metadata.jsonl"
    if not path.is_file() or path.read_text(encoding="utf-8") != as_lines([metadata]):
        write_rows(path, [metadata])


def write_results(path: Path, judged: Sequence[Judged]) -> None:
    """Write the results.jsonl that the official summary reads; metadata and objects are JSON within JSON."""
    write_rows(
        path,
        (
            {
                "filename": one.filename,
                "tag": one.metadata["tag"],
                "prompt": one.metadata["prompt"],
                "correct": one.verdict.correct,
                "reason": one.verdict.reason,
                "metadata": json.dumps(one.metadata),
                "details": json.dumps(boxes_of(one.objects)),
            }
            for one in judged
        ),
    )


def read_results(path: Path) -> list[Judged]:
    """The rows of a results.jsonl, pairuni's or the official script's. Raises ValueError naming file and line."""
    rows = read_rows(path, filename=str, correct=bool, reason=str, metadata=str, details=str)
    return [_judged(row, f"{path}, {row['filename']}") for row in rows]


def _judged(row: Mapping[str, Any], where: str) -> Judged:
    metadata = checked(_within(row, "metadata", where), f"{where}, metadata", {"tag": str, "prompt": str})
    check_task(metadata["tag"], where)
    try:
        objects = objects_of(checked(_within(row, "details", where), f"{where}, details", {}))
    except (TypeError, LookupError):
        raise ValueError(
            f"{where}: details must map each class to lists of four corners and a confidence"
        ) from None
    return Judged(row["filename"], metadata, Verdict(row["correct"], row["reason"]), objects)


def boxes_of(objects: Objects) -> dict[str, list[list[float]]]:
    """Each class's objects as [left, top, right, bottom, confidence]."""
    return {name: [[*one.box, one.confidence] for one in found] for name, found in objects.items()}


def objects_of(boxes: Mapping[str, Sequence[Sequence[float]]]) -> dict[str, list[Detection]]:
    """The objects that ``boxes_of`` wrote."""
    return {
        name: [Detection((box[0], box[1], box[2], box[3]), box[4], name) for box in found]
        for name, found in boxes.items()
    }


def _within(row: Mapping[str, Any], key: str, where: str) -> Any:
    return parse_json(row[key], f"{where}, {key}")


def score(judged: Sequence[Judged], *, detector: str, prompt_set: str | None = None) -> Result:
    """Overall score in percent: the mean of the six tasks' shares of correct images.

    detector: what detected objects and colours; the score depends on it. prompt_set: "original" or the name of a
    rewritten set, by default inferred from the prompts. The interval resamples prompts, because images of one prompt
    are correlated. Raises ValueError if a task has no images, and for a duplicate image.
    """
    names = Counter(one.filename for one in judged)
    if twice := [name for name, count in names.items() if count > 1]:
        raise ValueError(f"the image {twice[0]} is judged {names[twice[0]]} times; each counts once")
    if prompt_set is None:
        plain = all(one.metadata["prompt"].startswith("a photo of ") for one in judged)
        prompt_set = "original" if plain else "rewritten"
    prompts: dict[str, dict[str, list[bool]]] = {task: {} for task in TASKS}
    for one in judged:
        key = json.dumps(one.metadata, sort_keys=True)
        prompts[one.metadata["tag"]].setdefault(key, []).append(one.verdict.correct)
    missing = [task for task, found in prompts.items() if not found]
    if missing:
        raise ValueError(f"GenEval needs images of all six tasks; missing: {', '.join(missing)}")
    strata = [
        [[float(sum(marks)), float(len(marks))] for marks in found.values()] for found in prompts.values()
    ]
    images = {task: [mark for marks in found.values() for mark in marks] for task, found in prompts.items()}
    shares = {task: 100 * sum(marks) / len(marks) for task, marks in images.items()}
    every = [marks for found in prompts.values() for marks in found.values()]
    return Result(
        benchmark="GenEval",
        protocol=part_of("official rules", len(judged), PROMPTS * max(map(len, every))),
        score=sum(shares.values()) / len(shares),
        unit="%, mean of six tasks",
        interval=bootstrap_interval(
            strata, lambda means: 100 * np.mean([mean[:, 0] / mean[:, 1] for mean in means], axis=0)
        ),
        parts=shares
        | {
            "pictures right": 100 * sum(map(sum, every)) / len(judged),
            "prompts right once": 100 * sum(map(any, every)) / len(every),
        },
        counts={task: len(marks) for task, marks in images.items()}
        | {"pictures right": len(judged), "prompts right once": len(every)},
        settings={"detector": detector, "prompts": prompt_set},
    )

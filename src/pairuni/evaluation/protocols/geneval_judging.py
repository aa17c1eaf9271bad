"""A detector judges GenEval's folder of images: the official evaluate_images.py, resumable.

A verdict is recorded under a digest of the image, its metadata and the detector: an image that was generated again is
judged again, and no other image is judged twice.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairuni import __version__
from pairuni.config import GenEvalJudgingSettings
from pairuni.console.counts import counted
from pairuni.distributed.shares import Share
from pairuni.evaluation.protocols.geneval_files import (
    TASKS,
    Judged,
    boxes_of,
    check_task,
    objects_of,
    score,
    write_results,
)
from pairuni.evaluation.rows import read_rows
from pairuni.evaluation.run_folder import Run, all_records, own_journal, process_batches, wait_for_records
from pairuni.io.images import load_image
from pairuni.rewards.composition.loading import load_pipeline
from pairuni.rewards.composition.pipeline import DetectionPipeline
from pairuni.rewards.composition.rules import Verdict, check_metadata, judge


@dataclass(frozen=True)
class GeneratedImage:
    """One image and the metadata of its prompt."""

    path: Path
    metadata: Mapping[str, Any]


def read_folder(
    folder: Path, labels: frozenset[str], only: Collection[Path] | None = None
) -> list[GeneratedImage]:
    """The images of a folder in the official layout, 00000/metadata.jsonl and 00000/samples/0000.png, in order.

    labels: the classes that the detector knows. only: the images to read; None reads all. Raises FileNotFoundError
    and ValueError, naming the prompt's folder, for a missing or invalid metadata file, an unknown class, and a prompt
    with fewer images than others.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    prompts = sorted(
        path
        for path in (folder.iterdir() if only is None else {image.parent.parent for image in only})
        if path.is_dir() and path.name.isdecimal()
    )
    if not prompts:
        raise ValueError(
            f"{folder} is not in GenEval's layout: no folder such as 00000, with metadata.jsonl and samples/0000.png"
        )
    images = {
        prompt: [one for one in _images(prompt, labels) if only is None or one.path in only]
        for prompt in prompts
    }
    most = max(map(len, images.values()))
    fewer = [prompt for prompt, found in images.items() if len(found) < most]
    if fewer or most == 0:
        first = (fewer or prompts)[0]
        raise ValueError(
            f"{first / 'samples'}: {len(images[first])} images such as 0000.png, where "
            f"{f'other prompts have {most}' if most else 'there must be some'}; prompts with too few: "
            f"{len(fewer) or len(prompts):,} of {len(prompts):,}; generate them first"
        )
    return [one for found in images.values() for one in found]


def judge_folder(
    folder: Path,
    pipeline: DetectionPipeline,
    records: Path,
    *,
    only: Collection[Path] | None = None,
    batch_size: int = 32,
    share: Share | None = None,
) -> list[Judged] | None:
    """A row of results.jsonl for each image, in order.

    only: the images to judge; None judges all. records: the folder of verdicts; the same call there resumes.
    batch_size: images in memory at once. Each process judges its share; the first one waits for all and returns the
    rows, the others return None. Raises ValueError naming an image that cannot be read, and what ``read_folder``
    raises.
    """
    share = share or Share()
    images = read_folder(folder, pipeline.detector.labels, only)
    keys = {one.path: _key(one, folder, pipeline) for one in images}

    with own_journal(records, share) as own:
        run = Run(own, share, all_records(records))

        def judged(batch: Sequence[GeneratedImage], start: int) -> dict[str, Any]:
            new = [one for one in batch if keys[one.path] not in run]
            return dict(zip((keys[one.path] for one in new), _verdicts(new, pipeline), strict=True))

        process_batches(
            images,
            run,
            size=batch_size,
            work=judged,
            key=lambda one: keys[one.path],
            title="GenEval detector",
        )
        if share.rank > 0:
            return None
        found = wait_for_records(records, list(keys.values()))
    return [_judged(one, found[keys[one.path]]) for one in images]


def judge_and_score(settings: GenEvalJudgingSettings, share: Share) -> str | None:
    """Write the official results file; returns the score's table when all six tasks have images, and the file.

    Verdicts so far are kept in ``<out>.records``. Returns None in all processes but the first.
    """
    pipeline = load_pipeline(
        settings.detector,
        settings.clip,
        device=settings.device,
        batch_size=settings.batch_size,
        settings="--",
    )
    out = settings.out
    judged = judge_folder(settings.images, pipeline, out.with_name(f"{out.name}.records"), share=share)
    if judged is None:
        return None
    write_results(out, judged)
    written = f"{counted(len(judged), 'image')}: {out}"
    missing = [task for task in TASKS if all(one.metadata["tag"] != task for one in judged)]
    if missing:
        return f"{written}\nno score, which needs images of all six tasks; missing: {', '.join(missing)}"
    return f"{score(judged, detector=pipeline.name).table()}\n{written}"


def _images(prompt: Path, labels: frozenset[str]) -> list[GeneratedImage]:
    file = prompt / "metadata.jsonl"
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; GenEval's layout has the prompt's metadata there")
    rows = read_rows(file, tag=str, include=list, prompt=str)
    if len(rows) != 1:
        raise ValueError(f"{file}: {len(rows)} lines, where GenEval's layout has one")
    check_task(rows[0]["tag"], str(file))
    metadata = check_metadata(rows[0], labels, str(file))
    samples = prompt / "samples"
    names = sorted(path for path in samples.iterdir() if path.is_file()) if samples.is_dir() else []
    return [GeneratedImage(path, metadata) for path in names if re.fullmatch(r"\d+\.png", path.name)]


def _key(one: GeneratedImage, folder: Path, pipeline: DetectionPipeline) -> str:
    judged_by = [__version__, pipeline.name, pipeline.threshold, pipeline.counting_threshold, one.metadata]
    digest = hashlib.sha256(json.dumps(judged_by, sort_keys=True).encode() + one.path.read_bytes())
    return f"{one.path.relative_to(folder).as_posix()} {digest.hexdigest()[:32]}"


def _verdicts(batch: Sequence[GeneratedImage], pipeline: DetectionPipeline) -> list[dict[str, Any]]:
    detected = pipeline([load_image(one.path) for one in batch], [one.metadata for one in batch])
    verdicts = [judge(one.metadata, objects) for one, objects in zip(batch, detected, strict=True)]
    return [
        {
            "correct": verdict.correct,
            "reason": verdict.reason,
            "objects": boxes_of(objects),
        }
        for verdict, objects in zip(verdicts, detected, strict=True)
    ]


def _judged(one: GeneratedImage, value: Mapping[str, Any]) -> Judged:
    return Judged(
        filename=str(one.path),
        metadata=one.metadata,
        verdict=Verdict(value["correct"], value["reason"]),
        objects=objects_of(value["objects"]),
    )

"""GenEval's folder of images judged by a detector: what the official evaluate_images.py does, resumable.

An image's verdict is recorded under a digest of the image, what was asked, and who judged, so that one that was
drawn anew is judged anew and all others never twice.
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
from pairuni.distributed.shares import Share
from pairuni.evaluation.protocols.geneval_files import TASKS, Judged
from pairuni.evaluation.rows import read_rows
from pairuni.evaluation.running import Run, all_records, in_batches, own_journal, when_all_are_done
from pairuni.io.images import load_image
from pairuni.rewards.composition.detection import Detection
from pairuni.rewards.composition.pipeline import DetectionPipeline
from pairuni.rewards.composition.rules import Verdict, check_metadata, judge


@dataclass(frozen=True)
class Drawn:
    """One image and the metadata of its prompt."""

    path: Path
    metadata: Mapping[str, Any]


def read_folder(folder: Path, labels: frozenset[str], only: Collection[Path] | None = None) -> list[Drawn]:
    """The images of a folder in the official layout, 00000/metadata.jsonl and 00000/samples/0000.png, in order.

    labels: the classes that can be judged; only: the images to read, all without it. Raises FileNotFoundError and
    ValueError, naming the prompt's folder, for a missing or faulty metadata file, a class of no label, and a prompt
    with fewer images than others.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    prompts = sorted(
        path
        for path in (folder.iterdir() if only is None else {picture.parent.parent for picture in only})
        if path.is_dir() and path.name.isdecimal()
    )
    if not prompts:
        raise ValueError(
            f"{folder} is not in GenEval's layout: no folder such as 00000, with metadata.jsonl and samples/0000.png"
        )
    drawn = {
        prompt: [one for one in _images(prompt, labels) if only is None or one.path in only]
        for prompt in prompts
    }
    most = max(len(pictures) for pictures in drawn.values())
    fewer = [prompt for prompt, pictures in drawn.items() if len(pictures) < most]
    if fewer or most == 0:
        first = (fewer or prompts)[0]
        raise ValueError(
            f"{first / 'samples'}: {len(drawn[first])} images such as 0000.png, where "
            f"{f'other prompts have {most}' if most else 'there must be some'}; prompts with too few: "
            f"{len(fewer) or len(prompts):,} of {len(prompts):,}; draw them first"
        )
    return [one for pictures in drawn.values() for one in pictures]


def judge_folder(
    folder: Path,
    look: DetectionPipeline,
    records: Path,
    *,
    only: Collection[Path] | None = None,
    batch_size: int = 32,
    share: Share | None = None,
) -> list[Judged] | None:
    """A row of results.jsonl for each image, in order; ``batch_size`` images are held at once.

    only: the images to judge, all of the folder without it. records: the folder of what is judged so far; the same
    call there goes on. Several processes each judge their share; the first one waits for all of them, None for the
    others. Raises ValueError naming an image that cannot be read, and what ``read_folder`` raises.
    """
    share = share or Share()
    drawn = read_folder(folder, look.detector.labels, only)
    keys = {one.path: _key(one, folder, look) for one in drawn}

    with own_journal(records, share) as own:
        run = Run(records, own, share, all_records(records))

        def judged(batch: Sequence[Drawn], start: int) -> dict[str, Any]:
            new = [one for one in batch if keys[one.path] not in run]
            return dict(zip((keys[one.path] for one in new), _verdicts(new, look), strict=True))

        in_batches(
            drawn, run, size=batch_size, work=judged, key=lambda one: keys[one.path], title="GenEval detector"
        )
        if share.rank > 0:
            return None
        found = when_all_are_done(records, list(keys.values()))
    return [_judged(one, found[keys[one.path]]) for one in drawn]


def _images(prompt: Path, labels: frozenset[str]) -> list[Drawn]:
    file = prompt / "metadata.jsonl"
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; GenEval's layout has the prompt's metadata there")
    rows = read_rows(file, tag=str, include=list, prompt=str)
    if len(rows) != 1:
        raise ValueError(f"{file}: {len(rows)} lines, where GenEval's layout has one")
    if rows[0]["tag"] not in TASKS:
        raise ValueError(f"{file}: GenEval has no task {rows[0]['tag']!r}; known: {', '.join(TASKS)}")
    metadata = check_metadata(rows[0], labels, str(file))
    samples = prompt / "samples"
    names = sorted(path for path in samples.iterdir() if path.is_file()) if samples.is_dir() else []
    return [Drawn(path, metadata) for path in names if re.fullmatch(r"\d+\.png", path.name)]


def _key(one: Drawn, folder: Path, look: DetectionPipeline) -> str:
    asked = [__version__, look.name, look.threshold, look.counting_threshold, one.metadata]
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode() + one.path.read_bytes())
    return f"{one.path.relative_to(folder).as_posix()} {digest.hexdigest()[:32]}"


def _verdicts(batch: Sequence[Drawn], look: DetectionPipeline) -> list[dict[str, Any]]:
    seen = look([load_image(one.path) for one in batch], [one.metadata for one in batch])
    verdicts = [judge(one.metadata, objects) for one, objects in zip(batch, seen, strict=True)]
    return [
        {
            "correct": verdict.correct,
            "reason": verdict.reason,
            "objects": {name: [[*d.box, d.confidence] for d in found] for name, found in objects.items()},
        }
        for verdict, objects in zip(verdicts, seen, strict=True)
    ]


def _judged(one: Drawn, value: Mapping[str, Any]) -> Judged:
    return Judged(
        filename=str(one.path),
        metadata=one.metadata,
        verdict=Verdict(value["correct"], value["reason"]),
        objects={
            name: [Detection((box[0], box[1], box[2], box[3]), box[4], name) for box in boxes]
            for name, boxes in value["objects"].items()
        },
    )

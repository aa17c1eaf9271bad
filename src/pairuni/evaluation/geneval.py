"""GenEval: from the official prompts to the official folders of images, judged by a detector or left unscored."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairuni.config import GenEvalSettings
from pairuni.distributed.shares import Share
from pairuni.evaluation.benchmark import Benchmark, Records, balanced_subset
from pairuni.evaluation.inference import PromptItem
from pairuni.evaluation.protocols import geneval_files
from pairuni.evaluation.protocols.geneval_files import Judged
from pairuni.evaluation.protocols.geneval_judging import judge_folder
from pairuni.evaluation.result import Result, slug
from pairuni.rewards.composition.loading import load_pipeline
from pairuni.rewards.composition.rules import check_metadata

GENEVAL_FILES = "GenEval's prompts are prompts/evaluation_metadata.jsonl of github.com/djghosh13/geneval"


@dataclass(frozen=True)
class GenEvalDetector:
    """What judges GenEval's images.

    name: recorded with the result. labels: the classes that it knows. judge: takes the folder of images, the images
    of this run and the share of this process; returns a row for each image, None in all processes but the first.
    """

    name: str
    labels: frozenset[str]
    judge: Callable[[Path, Collection[Path], Share], Sequence[Judged] | None]


def geneval_detector(settings: GenEvalSettings) -> GenEvalDetector | None:
    """The detector named in the settings; None if images are only generated."""
    if settings.detector is None:
        return None
    pipeline = load_pipeline(settings.detector, settings.clip, device=settings.device, settings="--")

    def judge(folder: Path, only: Collection[Path], share: Share) -> Sequence[Judged] | None:
        return judge_folder(folder, pipeline, settings.out / "judged", only=only, share=share)

    return GenEvalDetector(pipeline.name, pipeline.detector.labels, judge)


def geneval_benchmark(settings: GenEvalSettings, detector: GenEvalDetector | None = None) -> Benchmark:
    """GenEval's 553 prompts in the official layout in ``out``/pictures.

    data: evaluation_metadata.jsonl, the official one or a rewritten one, or its folder. With a detector, writes
    ``out``/results-<detector>.jsonl and has a score; without, it has no result. Raises FileNotFoundError for a
    missing file and ValueError for a class that the detector does not know.
    """
    out, folder = settings.out, settings.out / "pictures"
    path, prompts, subset = _chosen_prompts(settings)
    original = all(row["prompt"].startswith("a photo of ") for _, row in prompts)
    prompt_set = "original" if original else f"rewritten: {path.name}"
    items = [
        PromptItem(
            f"{number:05d}",
            row["prompt"],
            tuple(geneval_files.image_path(folder, number, sample) for sample in range(settings.samples)),
        )
        for number, row in prompts
    ]
    judged: list[Judged] = []
    if detector is not None:
        for number, metadata in prompts:
            check_metadata(metadata, detector.labels, f"{path}, prompt {number}")

    def begin() -> None:
        for number, row in prompts:
            geneval_files.write_prompt(folder, number, row)

    def share_work(share: Share) -> None:
        assert detector is not None
        judged.extend(detector.judge(folder, {path for item in items for path in item.files}, share) or [])

    def finish(records: Records) -> list[Result]:
        if detector is None:
            return []
        geneval_files.write_results(out / f"results-{slug(detector.name)}.jsonl", judged)
        return [geneval_files.score(judged, detector=detector.name, prompt_set=prompt_set)]

    return Benchmark(
        name="GenEval",
        settings={"prompts": prompt_set, "pictures of a prompt": settings.samples},
        prompts=items,
        subset=subset,
        unscored=(
            f"images: {folder}; to judge them: the same command with --detector, "
            f"pairuni eval judge geneval {folder}, or GenEval's evaluation/evaluate_images.py, "
            "then pairuni eval score geneval RESULTS --judge DETECTOR"
        ),
        begin=begin,
        share_work=None if detector is None else share_work,
        finish=finish,
    )


def _chosen_prompts(
    settings: GenEvalSettings,
) -> tuple[Path, list[tuple[int, Mapping[str, Any]]], str | None]:
    """The file of prompts, the numbered prompts to run, and the sentence of ``balanced_subset``."""
    data = settings.data
    path = data / "evaluation_metadata.jsonl" if data.is_dir() else data
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; {GENEVAL_FILES}")
    by_task: dict[str, list[tuple[int, Mapping[str, Any]]]] = {task: [] for task in geneval_files.TASKS}
    for number, row in enumerate(geneval_files.read_prompts(path)):
        by_task[row["tag"]].append((number, row))
    present = {task: rows for task, rows in by_task.items() if rows}
    chosen, subset = balanced_subset(present, settings.limit, "prompts")
    return path, sorted((one for rows in chosen.values() for one in rows), key=lambda one: one[0]), subset

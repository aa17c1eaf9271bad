"""ImgEdit-Bench Basic: from the official edits to edited images, and to marks by a judge behind an endpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from pairuni.chat.endpoint import Endpoint
from pairuni.chat.reasoning import without_reasoning
from pairuni.config import EndpointSettings, ImgEditSettings
from pairuni.evaluation.benchmark import Benchmark, Records, balanced_subset
from pairuni.evaluation.inference import EditItem
from pairuni.evaluation.judging import Asks, Case, Judged, judge_all
from pairuni.evaluation.protocols import imgedit
from pairuni.evaluation.protocols.imgedit_judge import JudgePrompts, read_judge_prompts
from pairuni.evaluation.question_images import check_images
from pairuni.evaluation.result import Result, part_of, slug
from pairuni.evaluation.rows import checked
from pairuni.io.paths import is_absolute

IMGEDIT_FILES = "ImgEdit's edits are Benchmark/Basic/basic_edit.json of github.com/PKU-YuanGroup/ImgEdit"
IMGEDIT_IMAGES = "the source images are in Benchmark.tar of huggingface.co/datasets/sysuyy/ImgEdit"


@dataclass(frozen=True)
class ImgEditJudge:
    """The model that judges edited images, and its prompts."""

    settings: EndpointSettings
    endpoint: Asks
    prompts: JudgePrompts


def imgedit_judge(settings: ImgEditSettings) -> ImgEditJudge | None:
    """The judge that the settings name; None when images are only edited."""
    if settings.judge is None:
        return None
    if settings.judge_prompts is None:
        raise ValueError(
            "--judge-prompts is needed with --judge: Benchmark/Basic/prompts.json of "
            "github.com/PKU-YuanGroup/ImgEdit, which states no licence and is therefore not in this package"
        )
    prompts = read_judge_prompts(settings.judge_prompts)
    endpoint = EndpointSettings(
        model=settings.judge,
        base_url=settings.base_url,
        concurrency=settings.concurrency,
        temperature=settings.judge_temperature,
    )
    return ImgEditJudge(endpoint, Endpoint(endpoint, section="judge"), prompts)


def imgedit_benchmark(settings: ImgEditSettings, judge: ImgEditJudge | None = None) -> Benchmark:
    """ImgEdit's 737 edits, one image each, ``out``/pictures/<key>.png.

    data: basic_edit.json or its folder. With a judge, writes result.json to ``out``/judged/<judge> as the official
    script does, and replies to ``out``/judge.jsonl; without, it has no result. Raises FileNotFoundError for missing
    files and ValueError for an invalid edit.
    """
    out, folder = settings.out, settings.out / "pictures"
    path, edits = _read_edits(settings.data)
    by_type: dict[str, list[str]] = {}
    for key, edit in edits.items():
        by_type.setdefault(edit["edit_type"], []).append(key)
    chosen, subset = balanced_subset(by_type, settings.limit, "edits")
    kept = {key for keys in chosen.values() for key in keys}
    edits = {key: edit for key, edit in edits.items() if key in kept}
    images = settings.images or path.parent
    files = {key: (images / edit["id"], folder / f"{key}.png") for key, edit in edits.items()}
    check_images(
        [source for source, _ in files.values()], f"{IMGEDIT_IMAGES}; give their folder with --images"
    )

    def finish(records: Records) -> list[Result]:
        if judge is None:
            return []
        cases = {
            key: Case(f"edit {key}", "", judge.prompts.filled(edit), files[key])
            for key, edit in edits.items()
        }
        # as in the official script, a reply without marks is not requested again
        replies = judge_all(cases, judge.settings, judge.endpoint, lambda reply: reply, out / "judge.jsonl")
        texts = {key: without_reasoning(one.reply) for key, one in replies.items()}
        imgedit.write_replies(out / "judged" / slug(judge.settings.model) / "result.json", texts)
        result = imgedit.score(texts, edits, judge=judge.settings.model)
        return [_named(result, judge, replies)]

    return Benchmark(
        name="ImgEdit",
        settings={"prompts": "ImgEdit's"},
        edits=[
            EditItem(key, source, edits[key]["prompt"], edited) for key, (source, edited) in files.items()
        ],
        subset=subset,
        unscored=(
            f"images: {folder}; to judge them: the same command with --judge MODEL --judge-prompts prompts.json, or "
            "ImgEdit's Benchmark/Basic/basic_bench.py, then "
            "pairuni eval score imgedit result.json --data basic_edit.json --judge MODEL"
        ),
        finish=finish,
    )


def _read_edits(data: Path) -> tuple[Path, dict[str, dict[str, Any]]]:
    """The file of edits, and its edits by key.

    Raises ValueError for a key that cannot name a file, and for the id of an image outside the folder of images.
    """
    path = data / "basic_edit.json" if data.is_dir() else data
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; {IMGEDIT_FILES}")
    edits = imgedit.read_edits(path)
    for key, edit in edits.items():
        if not re.fullmatch(r"[\w-]+", key):
            raise ValueError(f"{path}: the key {key!r} cannot name an image; use letters, digits, - and _")
        checked(edit, f"{path}, edit {key}", {"id": str, "prompt": str})
        if is_absolute(edit["id"]) or ".." in PurePosixPath(edit["id"]).parts:
            raise ValueError(f"{path}, edit {key}: the id {edit['id']!r} is outside the folder of images")
    return path, edits


def _named(result: Result, judge: ImgEditJudge, replies: Mapping[str, Judged[str]]) -> Result:
    """The result with a protocol that names judge prompts or a judge temperature other than the official ones."""
    refused = any("temperature" in one.left_out for one in replies.values())
    temperature = None if refused else judge.settings.temperature
    name = imgedit.PROTOCOL if judge.prompts.official else f"{imgedit.PROTOCOL}, judge prompts of one's own"
    if temperature is not None:
        name = f"{name}, judge temperature {temperature:g}"
    settings = {
        **result.settings,
        "judge prompt": judge.prompts.digest,
        "judge temperature": "the server's own" if temperature is None else temperature,
    }
    return replace(result, protocol=part_of(name, len(replies), imgedit.EDITS), settings=settings)

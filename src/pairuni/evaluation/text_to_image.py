"""GenEval and WISE as a model draws for them: official prompts in, official folders out, scored by whoever judges."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pairuni.chat.reasoning import without_reasoning
from pairuni.config import EndpointSettings
from pairuni.distributed.shares import Share
from pairuni.evaluation.benchmark import Benchmark, Records, spread
from pairuni.evaluation.judging import Asks, Case, judge_all
from pairuni.evaluation.judging import Judged as JudgeSaid
from pairuni.evaluation.protocols import geneval_files, wise
from pairuni.evaluation.protocols.geneval_files import Judged
from pairuni.evaluation.protocols.wise_judge import JudgePrompt, verdict_in
from pairuni.evaluation.result import Result, part_of, slug
from pairuni.evaluation.rows import read_list
from pairuni.evaluation.running import Draw
from pairuni.io.files import write_text
from pairuni.rewards.composition.rules import check_metadata

GENEVAL_FILES = "GenEval's prompts are prompts/evaluation_metadata.jsonl of github.com/djghosh13/geneval"
WISE_FILES = "WISE's prompts are in github.com/PKU-YuanGroup/WISE: WISE_legacy/data, and data_verified"
_WISE_NAMES = ("cultural_common_sense", "spatio-temporal_reasoning", "natural_science")


@dataclass(frozen=True)
class GenEvalDetector:
    """Who judges GenEval's images. name: for the record; labels: the classes that it knows; judge: from the folder
    of images and those of them that the run drew to a row for each image, None for all processes but the first,
    each of which judges its share."""

    name: str
    labels: frozenset[str]
    judge: Callable[[Path, Collection[Path], Share], Sequence[Judged] | None]


@dataclass(frozen=True)
class WiseJudge:
    """Who judges WISE's images, by which prompt."""

    settings: EndpointSettings
    endpoint: Asks
    prompt: JudgePrompt


def geneval_benchmark(
    data: Path,
    out: Path,
    *,
    samples: int = 4,
    limit: int | None = None,
    detector: GenEvalDetector | None = None,
) -> Benchmark:
    """GenEval's 553 prompts, ``samples`` images of each, in the official layout in ``out``/images.

    data: evaluation_metadata.jsonl, the official one or a rewritten one, or its folder. With a detector,
    ``out``/results-<detector>.jsonl and a score; without, no result. Raises FileNotFoundError when the file is
    missing, and ValueError for a class that the detector does not know.
    """
    path = data / "evaluation_metadata.jsonl" if data.is_dir() else data
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; {GENEVAL_FILES}")
    by_task: dict[str, list[tuple[int, Mapping[str, Any]]]] = {task: [] for task in geneval_files.TASKS}
    for number, row in enumerate(geneval_files.read_prompts(path)):
        by_task[row["tag"]].append((number, row))
    chosen, subset = spread({task: rows for task, rows in by_task.items() if rows}, limit, "prompts")
    prompts = sorted((one for rows in chosen.values() for one in rows), key=lambda one: one[0])
    original = all(row["prompt"].startswith("a photo of ") for _, row in prompts)
    prompt_set = "original" if original else f"rewritten: {path.name}"
    folder = out / "pictures"
    draws = [
        Draw(
            f"{number:05d}",
            row["prompt"],
            tuple(geneval_files.image_path(folder, number, sample) for sample in range(samples)),
        )
        for number, row in prompts
    ]
    judged: list[Judged] = []
    if detector is not None:
        for number, asked in prompts:
            check_metadata(asked, detector.labels, f"{path}, prompt {number}")

    def begin() -> None:
        for number, row in prompts:
            geneval_files.write_prompt(folder, number, row)

    def share_work(share: Share) -> None:
        assert detector is not None
        judged.extend(detector.judge(folder, {one for draw in draws for one in draw.pictures}, share) or [])

    def finish(records: Records) -> list[Result]:
        if detector is None:
            return []
        geneval_files.write_results(out / f"results-{slug(detector.name)}.jsonl", judged)
        return [geneval_files.score(judged, detector=detector.name, prompt_set=prompt_set)]

    return Benchmark(
        name="GenEval",
        settings={"prompts": prompt_set, "images of a prompt": samples},
        draws=draws,
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


def wise_benchmark(
    data: Path,
    out: Path,
    *,
    protocol: wise.Protocol = "legacy",
    limit: int | None = None,
    judge: WiseJudge | None = None,
) -> Benchmark:
    """WISE's 1000 prompts by one protocol, an image of each, ``out``/images/<id>.png.

    data: the folder of the three official files of the protocol. With a judge, full results and scores files go to
    ``out``/judged/<judge> as the official scripts write them, replies to ``out``/judge.jsonl; without, no result.
    Raises FileNotFoundError and ValueError naming what is missing.
    """
    rows, files = read_wise(data, protocol)
    buckets = {
        name: [rows[i] for i in range(bucket.first, bucket.last + 1)]
        for name, bucket in wise.BUCKETS[protocol].items()
    }
    chosen, subset = spread(buckets, limit, "prompts")
    drawn = {row["prompt_id"]: row for found in chosen.values() for row in found}
    folder = out / "pictures"

    def finish(records: Records) -> list[Result]:
        if judge is None:
            return []
        replies = _judged(drawn, folder, judge, protocol, out)
        scores = _written(drawn, replies, files, folder, out / "judged" / slug(judge.settings.model))
        result = wise.score(scores, protocol=protocol, judge=judge.settings.model, prompts=drawn.keys())
        refused = any("temperature" in said.left_out for said in replies.values())
        return [_named(result, judge, protocol, refused)]

    return Benchmark(
        name=f"WISE {protocol}",
        settings={"prompts": f"WISE's, {protocol}"},
        draws=[Draw(str(i), row["Prompt"], (folder / f"{i}.png",)) for i, row in drawn.items()],
        subset=subset,
        unscored=(
            f"images: {folder}; to judge them: the same command with --judge MODEL, or WISE's own script, then "
            f"pairuni eval score wise SCORES --protocol {protocol} --judge MODEL"
        ),
        finish=finish,
    )


def read_wise(data: Path, protocol: wise.Protocol) -> tuple[dict[int, dict[str, Any]], dict[int, str]]:
    """The rows of a protocol's prompts by id, and the name of the file that each is of, without its ending.

    Raises FileNotFoundError for a file, and ValueError for an id, that is missing.
    """
    ending = "_verified" if protocol == "verified" else ""
    rows: dict[int, dict[str, Any]] = {}
    files: dict[int, str] = {}
    for name in _WISE_NAMES:
        path = data / f"{name}{ending}.json"
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; {WISE_FILES}")
        for row in read_list(path, prompt_id=int, Prompt=str, Explanation=str, Subcategory=str):
            rows[row["prompt_id"]] = row
            files[row["prompt_id"]] = name
    missing = [i for i in range(1, 1001) if i not in rows]
    if missing:
        raise ValueError(f"{data}: {len(missing)} of WISE's 1000 prompts are missing, the first {missing[0]}")
    return rows, files


def _judged(
    drawn: Mapping[int, Mapping[str, Any]],
    folder: Path,
    judge: WiseJudge,
    protocol: wise.Protocol,
    out: Path,
) -> dict[str, JudgeSaid[dict[str, int]]]:
    """What the judge says of each prompt's image, by the prompt's id."""
    cases = {
        str(i): Case(f"prompt {i}", judge.prompt.system, judge.prompt.filled(row), folder / f"{i}.png")
        for i, row in drawn.items()
    }
    read = partial(_marks, protocol=protocol)
    return judge_all(cases, judge.settings, judge.endpoint, read, out / "judge.jsonl")


def _written(
    drawn: Mapping[int, Mapping[str, Any]],
    replies: Mapping[str, JudgeSaid[dict[str, int]]],
    files: Mapping[int, str],
    folder: Path,
    judged: Path,
) -> list[dict[str, Any]]:
    """Rows of the scores files, which are written beside the full results, a pair for each of WISE's files."""
    full: dict[str, list[dict[str, Any]]] = {}
    scores: dict[str, list[dict[str, Any]]] = {}
    for i, row in sorted(drawn.items()):
        said = replies[str(i)]
        full.setdefault(files[i], []).append(
            {
                "prompt_id": i,
                "prompt": row["Prompt"],
                "key": row["Explanation"],
                "image_path": str(folder / f"{i}.png"),
                "evaluation": said.reply,
            }
        )
        scores.setdefault(files[i], []).append(
            {"prompt_id": i, "Subcategory": row["Subcategory"], **said.marks}
        )
    for name in scores:
        write_text(judged / f"{name}_full_results.json", _array(full[name]))
        wise.write_scores(judged / f"{name}_scores_results.jsonl", scores[name])
    return [row for rows in scores.values() for row in rows]


def _marks(reply: str, protocol: wise.Protocol) -> dict[str, int] | None:
    if protocol == "legacy":
        return wise.marks_in(without_reasoning(reply))
    verdict = verdict_in(reply)
    return None if verdict is None else {"score": verdict}


def _named(result: Result, judge: WiseJudge, protocol: wise.Protocol, refused: bool) -> Result:
    """The result under the protocol that its judge's prompt and temperature make it.

    refused: the judge's server refused the temperature of some request, so that its own was taken.
    """
    temperature = (
        "the server's own" if refused or judge.settings.temperature is None else judge.settings.temperature
    )
    settings = {**result.settings, "judge prompt": judge.prompt.digest, "judge temperature": temperature}
    name = judge.prompt.protocol(protocol)
    if temperature != wise.JUDGE_TEMPERATURE:
        shown = temperature if isinstance(temperature, str) else f"{temperature:g}"
        name = f"{name}, judge temperature {shown}"
    return replace(
        result, protocol=part_of(name, sum(result.counts.values()), wise.PROMPTS), settings=settings
    )


def _array(rows: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps(list(rows), ensure_ascii=False, indent=2) + "\n"

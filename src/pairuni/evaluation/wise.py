"""WISE: from the official prompts to images, and to scores by a judge behind an endpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pairuni.chat.endpoint import Endpoint
from pairuni.chat.reasoning import without_reasoning
from pairuni.config import EndpointSettings, WISESettings
from pairuni.evaluation.benchmark import Benchmark, Records, balanced_subset
from pairuni.evaluation.inference import PromptItem
from pairuni.evaluation.judging import Asks, Case, Judged, judge_all
from pairuni.evaluation.protocols import wise
from pairuni.evaluation.protocols.wise_judge import (
    MAX_TOKENS,
    JudgePrompt,
    own_prompt,
    read_prompt,
    verdict_in,
)
from pairuni.evaluation.result import Result, part_of, slug
from pairuni.evaluation.rows import read_list
from pairuni.io.files import write_text

WISE_FILES = "WISE's prompts are in github.com/PKU-YuanGroup/WISE: WISE_legacy/data, and data_verified"
_WISE_NAMES = ("cultural_common_sense", "spatio-temporal_reasoning", "natural_science")


@dataclass(frozen=True)
class WiseJudge:
    """The model that judges WISE's images, and its prompt."""

    settings: EndpointSettings
    endpoint: Asks
    prompt: JudgePrompt


def wise_judge(settings: WISESettings) -> WiseJudge | None:
    """The judge that the settings name; None when images are only generated."""
    if settings.judge is None:
        return None
    path = settings.judge_prompt
    prompt = own_prompt(settings.protocol) if path is None else read_prompt(path)
    prompt.protocol(
        settings.protocol
    )  # an official prompt of the other protocol fails before any image is made
    endpoint = EndpointSettings(
        model=settings.judge,
        base_url=settings.base_url,
        concurrency=settings.concurrency,
        temperature=settings.judge_temperature,
        max_tokens=MAX_TOKENS,
    )
    return WiseJudge(endpoint, Endpoint(endpoint, section="judge"), prompt)


def wise_benchmark(settings: WISESettings, judge: WiseJudge | None = None) -> Benchmark:
    """WISE's 1000 prompts of one protocol, one image each, ``out``/pictures/<id>.png.

    data: the folder of the protocol's three official files. With a judge, writes full results and scores files to
    ``out``/judged/<judge> as the official scripts do, and replies to ``out``/judge.jsonl; without, it has no result.
    Raises FileNotFoundError and ValueError naming what is missing.
    """
    protocol, out = settings.protocol, settings.out
    rows, files = read_wise(settings.data, protocol)
    buckets = {
        name: [rows[i] for i in range(bucket.first, bucket.last + 1)]
        for name, bucket in wise.BUCKETS[protocol].items()
    }
    chosen, subset = balanced_subset(buckets, settings.limit, "prompts")
    prompts = {row["prompt_id"]: row for found in chosen.values() for row in found}
    folder = out / "pictures"

    def finish(records: Records) -> list[Result]:
        if judge is None:
            return []
        replies = _judged(prompts, folder, judge, protocol, out)
        scores = _write_judged(prompts, replies, files, folder, out / "judged" / slug(judge.settings.model))
        result = wise.score(scores, protocol=protocol, judge=judge.settings.model, prompts=prompts.keys())
        refused = any("temperature" in reply.left_out for reply in replies.values())
        return [_named(result, judge, protocol, refused)]

    return Benchmark(
        name=f"WISE {protocol}",
        settings={"prompts": f"WISE's, {protocol}"},
        prompts=[PromptItem(str(i), row["Prompt"], (folder / f"{i}.png",)) for i, row in prompts.items()],
        subset=subset,
        unscored=(
            f"images: {folder}; to judge them: the same command with --judge MODEL, or WISE's own script, then "
            f"pairuni eval score wise SCORES --protocol {protocol} --judge MODEL"
        ),
        finish=finish,
    )


def read_wise(data: Path, protocol: wise.Protocol) -> tuple[dict[int, dict[str, Any]], dict[int, str]]:
    """A protocol's rows by prompt id, and the stem of each row's file.

    Raises FileNotFoundError for a missing file and ValueError for missing ids.
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
    prompts: Mapping[int, Mapping[str, Any]],
    folder: Path,
    judge: WiseJudge,
    protocol: wise.Protocol,
    out: Path,
) -> dict[str, Judged[dict[str, int]]]:
    """The judge's replies by prompt id."""
    cases = {
        str(i): Case(f"prompt {i}", judge.prompt.system, judge.prompt.filled(row), (folder / f"{i}.png",))
        for i, row in prompts.items()
    }
    read = partial(_marks, protocol=protocol)
    return judge_all(cases, judge.settings, judge.endpoint, read, out / "judge.jsonl")


def _write_judged(
    prompts: Mapping[int, Mapping[str, Any]],
    replies: Mapping[str, Judged[dict[str, int]]],
    files: Mapping[int, str],
    folder: Path,
    judged: Path,
) -> list[dict[str, Any]]:
    """Write the full results and the scores of each of WISE's files; returns the rows of the scores."""
    full: dict[str, list[dict[str, Any]]] = {}
    scores: dict[str, list[dict[str, Any]]] = {}
    for i, row in sorted(prompts.items()):
        reply = replies[str(i)]
        full.setdefault(files[i], []).append(
            {
                "prompt_id": i,
                "prompt": row["Prompt"],
                "key": row["Explanation"],
                "image_path": str(folder / f"{i}.png"),
                "evaluation": reply.reply,
            }
        )
        scores.setdefault(files[i], []).append(
            {"prompt_id": i, "Subcategory": row["Subcategory"], **reply.marks}
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
    """The result with a protocol that names a judge prompt or temperature other than the official one.

    refused: the judge's server refused the requested temperature and used its own.
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

"""What a run's folder holds, read for the report. Every part is optional; a broken part is named."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ValidationError

from pairuni.records import Annotation, UGPair
from pairuni.report.held_out import Look, read_looks
from pairuni.training.tracking import MetricsLog

Task = Literal["understanding", "generation"]
TASKS: tuple[Task, ...] = get_args(Task)
When = Literal["before", "after"]
FORMS = ("jsonl", "parquet")
SIDES = ("generate_ann", "understand_ann")


class KindScore(BaseModel):
    """Share of right items of one kind, in [0, 1], and their number where known."""

    score: float
    count: int | None = None


class Item(BaseModel):
    """One held-out item: a question answered or a prompt drawn.

    image: relative to the run's folder; empty when no picture was kept. reply: the answer, or for a picture
    what the detector saw.
    """

    correct: bool
    kind: str = ""
    image: str = ""
    question: str = ""
    answer: str = ""
    reply: str = ""
    prompt: str = ""


class TaskScores(BaseModel):
    """Scores of one task at one time."""

    score: float
    count: int | None = None
    by_kind: dict[str, KindScore] = {}
    items: list[Item] = []


class Evaluation(BaseModel):
    """run/evaluation/before.json or after.json."""

    understanding: TaskScores | None = None
    generation: TaskScores | None = None

    def task(self, task: Task) -> TaskScores | None:
        return self.understanding if task == "understanding" else self.generation


@dataclass(frozen=True)
class Run:
    """A run's folder. ``pairs_folder`` is what the pairs' image paths are relative to."""

    folder: Path
    config: dict[str, Any]
    summary: dict[str, Any]
    metrics: list[dict[str, Any]]
    samples: list[dict[str, Any]]
    before: Evaluation
    after: Evaluation
    looks: list[Look]
    pairs: list[UGPair]
    pairs_folder: Path


def read_run(folder: Path) -> Run:
    """Read a run's folder; absent parts are empty.

    Raises FileNotFoundError when there is no folder, ValueError naming the file when a part cannot be read or
    when the folder holds none.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such run folder")
    parts = (
        "config.toml",
        "metrics.jsonl",
        "summary.json",
        "evaluation/before.json",
        "evaluation/after.json",
    )
    if not any((folder / part).exists() for part in parts):
        raise ValueError(f"{folder} holds no run: it has none of {', '.join(parts)}")
    config = _read_toml(folder / "config.toml")
    summary = _read_json(folder / "summary.json")
    pairs_file = _find_pairs(folder, config, summary)
    before, after = (_evaluation(folder, summary, when) for when in ("before", "after"))
    _check_same_items(folder, before, after)
    return Run(
        folder=folder,
        config=config,
        summary=summary,
        metrics=MetricsLog(folder / "metrics.jsonl").rows(),
        samples=MetricsLog(folder / "samples" / "samples.jsonl").rows(),
        before=before,
        after=after,
        looks=read_looks(folder),
        pairs=_read_pairs(pairs_file) if pairs_file else [],
        pairs_folder=pairs_file.parent if pairs_file else folder,
    )


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid TOML: {error}") from None


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds no JSON object")
    return value


def _evaluation(folder: Path, summary: Mapping[str, Any], when: str) -> Evaluation:
    path = folder / "evaluation" / f"{when}.json"
    values = _read_json(path)
    if not values:
        path, values = folder / "summary.json", _from_summary(summary.get(when) or {})
    try:
        return Evaluation.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{path}: {where or when}: {first['msg']}") from None


def _from_summary(scores: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for task in TASKS:
        if scores.get(task) is not None:
            kinds = scores.get(f"{task}_by_kind") or {}
            values[task] = {
                "score": scores[task],
                "by_kind": {k: v if isinstance(v, Mapping) else {"score": v} for k, v in kinds.items()},
            }
    return values


def _check_same_items(folder: Path, before: Evaluation, after: Evaluation) -> None:
    for task in TASKS:
        first, second = before.task(task), after.task(task)
        if first is None or second is None or not first.items or not second.items:
            continue
        if [(i.question, i.prompt) for i in first.items] != [(i.question, i.prompt) for i in second.items]:
            raise ValueError(f"{folder / 'evaluation'}: before.json and after.json hold other {task} items")


def _find_pairs(folder: Path, config: Mapping[str, Any], summary: Mapping[str, Any]) -> Path | None:
    told = [summary.get("pairs"), config.get("data", {}).get("pairs")]
    candidates = [place / f"pairs.{form}" for place in (folder, folder / "pairug") for form in FORMS]
    candidates += [place for name in told if isinstance(name, str) for place in (folder / name, Path(name))]
    return next((path for path in candidates if path.suffix[1:] in FORMS and path.is_file()), None)


def _read_pairs(path: Path) -> list[UGPair]:
    if path.suffix == ".parquet":
        return _read_parquet(path)
    pairs = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip():
            try:
                pairs.append(UGPair.model_validate_json(line))
            except ValidationError as error:
                raise ValueError(f"{path}, line {number}: {error.errors()[0]['msg']}") from None
    return pairs


def _read_parquet(path: Path) -> list[UGPair]:
    """The plain columns: a report shows no further keys, and pictures inside the file are not read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = ["similarity", *(f"{side}.{name}" for side in SIDES for name in Annotation.model_fields)]
    try:
        rows = pq.ParquetFile(path).read(columns=columns).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} is not a whole parquet file ({str(error).splitlines()[0]})") from None
    pairs = []
    for number, row in enumerate(rows, start=1):
        try:
            pairs.append(UGPair.model_validate(row))
        except ValidationError as error:
            raise ValueError(f"{path}, row {number}: {error.errors()[0]['msg']}") from None
    return pairs

"""What a run's folder holds, read for the report. Every part is optional; a broken part is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from pairuni.io.parquet import read_batches
from pairuni.io.text import parse_json
from pairuni.records import Annotation, UGPair
from pairuni.report.held_out import Look, read_looks
from pairuni.report.reading import Count, Number, Part, Share, checked, lines, read_json, read_rows, read_toml

Task = Literal["understanding", "generation"]
TASKS: tuple[Task, ...] = get_args(Task)
When = Literal["before", "after"]
FORMS = ("jsonl", "parquet")
SIDES = ("generate_ann", "understand_ann")


class KindScore(Part):
    """Share of right items of one kind, in [0, 1], and their number where known."""

    score: Share
    count: Count | None = None


class Item(Part):
    """One held-out item: a question answered or a prompt drawn.

    image: relative to the run's folder; empty when no image was kept. reply: the answer, or for an image
    what the detector saw.
    """

    correct: bool
    kind: str = ""
    image: str = ""
    question: str = ""
    answer: str = ""
    reply: str = ""
    prompt: str = ""


class TaskScores(Part):
    """Scores of one task at one time."""

    score: Share
    count: Count | None = None
    by_kind: dict[str, KindScore] = Field(default_factory=dict)
    items: list[Item] = Field(default_factory=list)


class Evaluation(Part):
    """run/evaluation/before.json or after.json."""

    understanding: TaskScores | None = None
    generation: TaskScores | None = None

    def task(self, task: Task) -> TaskScores | None:
        return self.understanding if task == "understanding" else self.generation


class Summary(Part):
    """run/summary.json. pairs: their file, or what is known of them. before, after: scores by task and kind."""

    seed: int | None = None
    seconds: Annotated[Number, Field(ge=0)] | None = None
    pairs: Any = None
    before: dict[str, Any] = Field(default_factory=dict)
    after: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class MetricsRow:
    """A line of metrics.jsonl. place: its file and line."""

    step: int
    values: Mapping[str, Any]
    place: str

    def value(self, key: str) -> float | None:
        """A measurement, None where there is none. Raises ValueError for what cannot be drawn."""
        value = self.values.get(key)
        return None if value is None else checked(_Measured, {"value": value}, f"{self.place}: {key}").value


class _Step(Part):
    step: Count


class _Measured(Part):
    value: Number


class Shot(Part):
    """An image of a rollout and what it earned. image: relative to samples/."""

    image: str
    reward: Number | None = None


class Said(Part):
    """An answer of a rollout and what it earned."""

    text: str
    reward: Number | None = None


class SampleRow(Part):
    """A line of samples.jsonl: a pair and the rollouts of both its sides."""

    step: Count
    similarity: Number
    prompt: str = ""
    question: str = ""
    answer: str = ""
    pictures: list[Shot] = Field(default_factory=list)
    answers: list[Said] = Field(default_factory=list)


@dataclass(frozen=True)
class Run:
    """A run's folder. ``pairs_folder`` is what the pairs' image paths are relative to."""

    folder: Path
    config: dict[str, Any]
    summary: Summary
    metrics: list[MetricsRow]
    samples: list[SampleRow]
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
    config = read_toml(folder / "config.toml")
    for name in ("policy", "data"):
        if not isinstance(config.get(name, {}), dict):
            raise ValueError(f"{folder / 'config.toml'}: {name} is no table")
    summary = checked(Summary, read_json(folder / "summary.json"), folder / "summary.json")
    pairs_file = _find_pairs(folder, config, summary)
    before, after = (_evaluation(folder, summary, when) for when in ("before", "after"))
    _check_same_items(folder, before, after)
    return Run(
        folder=folder,
        config=config,
        summary=summary,
        metrics=[
            MetricsRow(checked(_Step, row, place).step, row, place)
            for place, row in read_rows(folder / "metrics.jsonl")
        ],
        samples=[
            checked(SampleRow, row, place) for place, row in read_rows(folder / "samples" / "samples.jsonl")
        ],
        before=before,
        after=after,
        looks=read_looks(folder),
        pairs=_read_pairs(pairs_file) if pairs_file else [],
        pairs_folder=pairs_file.parent if pairs_file else folder,
    )


def table(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A section of config.toml; empty when it is missing."""
    section: Mapping[str, Any] = config.get(name, {})
    return section


def _evaluation(folder: Path, summary: Summary, when: When) -> Evaluation:
    path = folder / "evaluation" / f"{when}.json"
    values = read_json(path)
    if values:
        return checked(Evaluation, values, path)
    scores = summary.before if when == "before" else summary.after
    return checked(Evaluation, _from_summary(scores), f"{folder / 'summary.json'}: {when}")


def _from_summary(scores: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for task in TASKS:
        if scores.get(task) is not None:
            kinds = scores.get(f"{task}_by_kind") or {}
            if isinstance(kinds, Mapping):
                kinds = {kind: v if isinstance(v, Mapping) else {"score": v} for kind, v in kinds.items()}
            values[task] = {"score": scores[task], "by_kind": kinds}
    return values


def _check_same_items(folder: Path, before: Evaluation, after: Evaluation) -> None:
    for task in TASKS:
        first, second = before.task(task), after.task(task)
        if first is None or second is None or not first.items or not second.items:
            continue
        if [(i.question, i.prompt) for i in first.items] != [(i.question, i.prompt) for i in second.items]:
            raise ValueError(f"{folder / 'evaluation'}: before.json and after.json hold other {task} items")


def _find_pairs(folder: Path, config: Mapping[str, Any], summary: Summary) -> Path | None:
    told = [summary.pairs, table(config, "data").get("pairs")]
    candidates = [place / f"pairs.{form}" for place in (folder, folder / "pairug") for form in FORMS]
    candidates += [place for name in told if isinstance(name, str) for place in (folder / name, Path(name))]
    return next((path for path in candidates if path.suffix[1:] in FORMS and _is_file(path)), None)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # such as a name that is too long
        return False


def _read_pairs(path: Path) -> list[UGPair]:
    if path.suffix == ".parquet":
        return _read_parquet(path)
    return [checked(UGPair, parse_json(line, place), place) for place, line in lines(path)]


def _read_parquet(path: Path) -> list[UGPair]:
    """The plain columns: a report shows no further keys, and images inside the file are not read."""
    columns = ["similarity", *(f"{side}.{name}" for side in SIDES for name in Annotation.model_fields)]
    rows = (row for batch in read_batches(path, columns=columns) for row in batch)
    return [checked(UGPair, row, f"{path}, row {number}") for number, row in enumerate(rows, start=1)]

"""A complete run as read from its folder. Every part is optional; a damaged part is named."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from pairuni.io.files import write_text
from pairuni.io.parquet import read_batches
from pairuni.io.text import json_lines
from pairuni.records import TASKS, Annotation, UGPair
from pairuni.runs.evaluations import Evaluation, StepEvaluation, read_step_evaluations
from pairuni.runs.folder import RunFolder
from pairuni.runs.metrics import MetricsRow, read_undamaged_metrics
from pairuni.runs.reading import Number, Part, checked, read_json, read_toml
from pairuni.runs.samples import Sample, read_samples

_PAIR_FILES = ("pairs.jsonl", "pairs.parquet")
_SIDES = ("generate_ann", "understand_ann")


class Summary(Part):
    """summary.json. pairs: their file, or counts. before, after: scores by task and kind."""

    seed: int | None = None
    seconds: Annotated[Number, Field(ge=0)] | None = None
    pairs: Any = None
    before: dict[str, Any] = Field(default_factory=dict)
    after: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """What a run's folder holds.

    folder: where it is, and the names of its files. config: config.toml. summary: summary.json. metrics: the lines of
    metrics.jsonl, one per step. samples: the saved samples. before: held-out evaluation of the untrained model. after:
    that of the trained one. step_evaluations: held-out evaluations during training. pairs: those that it trained on.
    pairs_file: their file, None if it was not found. faults: sentences on what is damaged and left out.
    """

    folder: RunFolder
    config: dict[str, Any]
    summary: Summary
    metrics: list[MetricsRow]
    samples: list[Sample]
    before: Evaluation
    after: Evaluation
    step_evaluations: list[StepEvaluation]
    pairs: list[UGPair]
    pairs_file: Path | None
    faults: Sequence[str] = ()

    @property
    def pairs_folder(self) -> Path:
        """What the pairs' image paths are relative to."""
        return self.folder.root if self.pairs_file is None else self.pairs_file.parent

    @property
    def step(self) -> int:
        """The last step in metrics.jsonl, 0 if there is none."""
        return max((row.step for row in self.metrics), default=0)

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end, where it writes summary.json."""
        return self.folder.summary.is_file()

    @property
    def planned_steps(self) -> int | None:
        """pairgrpo.steps, unless the settings give epochs or are missing."""
        grpo = self.config.get("pairgrpo")
        steps = grpo.get("steps") if isinstance(grpo, dict) and grpo.get("epochs") is None else None
        return steps if isinstance(steps, int) else None

    def section(self, name: str) -> Mapping[str, Any]:
        """The table ``name`` of config.toml; empty if it is missing."""
        return _section(self.config, name)


def read_run(root: str | Path) -> Run:
    """Read the folder ``root`` of a run; missing parts are empty.

    Raises FileNotFoundError if there is no folder, ValueError naming the file if a part cannot be read, or if the
    folder is not a run folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such run folder")
    folder = RunFolder(root)
    evaluations = [folder.evaluation / f"{when}.json" for when in ("before", "after")]
    parts = [folder.config, folder.metrics, folder.summary, *evaluations]
    if not any(path.exists() for path in parts):
        names = ", ".join(str(path.relative_to(root)) for path in parts)
        raise ValueError(f"{root} is not a run folder: it has none of {names}")
    config = read_toml(folder.config)
    for name in ("policy", "data"):
        if not isinstance(config.get(name, {}), dict):
            raise ValueError(f"{folder.config}: {name} is not a table")
    summary = checked(Summary, read_json(folder.summary), folder.summary)
    before, after = _evaluation(folder, summary, "before"), _evaluation(folder, summary, "after")
    _check_same_items(folder, before, after)
    pairs_file = _find_pairs(root, config, summary)
    metrics, fault = read_undamaged_metrics(folder.metrics)
    return Run(
        folder=folder,
        config=config,
        summary=summary,
        metrics=metrics,
        samples=read_samples(folder.samples_log),
        before=before,
        after=after,
        step_evaluations=read_step_evaluations(root),
        pairs=_read_pairs(pairs_file) if pairs_file else [],
        pairs_file=pairs_file,
        faults=[fault] if fault else [],
    )


def write_summary(folder: RunFolder, summary: Mapping[str, Any]) -> None:
    write_text(folder.summary, json.dumps(summary, indent=2) + "\n")


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section: Mapping[str, Any] = config.get(name, {})
    return section


def _evaluation(folder: RunFolder, summary: Summary, when: Literal["before", "after"]) -> Evaluation:
    path = folder.evaluation / f"{when}.json"
    if values := read_json(path):
        return checked(Evaluation, values, path)
    scores = summary.before if when == "before" else summary.after
    return checked(Evaluation, _from_summary(scores), f"{folder.summary}: {when}")


def _from_summary(scores: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for task in TASKS:
        if scores.get(task) is not None:
            kinds = scores.get(f"{task}_by_kind") or {}
            if isinstance(kinds, Mapping):
                kinds = {kind: v if isinstance(v, Mapping) else {"score": v} for kind, v in kinds.items()}
            values[task] = {"score": scores[task], "by_kind": kinds}
    return values


def _check_same_items(folder: RunFolder, before: Evaluation, after: Evaluation) -> None:
    for task in TASKS:
        first, second = before.task(task), after.task(task)
        if first is None or second is None or not first.items or not second.items:
            continue
        if [(i.question, i.prompt) for i in first.items] != [(i.question, i.prompt) for i in second.items]:
            raise ValueError(f"{folder.evaluation}: before.json and after.json hold different {task} items")


def _find_pairs(root: Path, config: Mapping[str, Any], summary: Summary) -> Path | None:
    candidates = [place / name for place in (root, root / "pairug") for name in _PAIR_FILES]
    for name in (summary.pairs, _section(config, "data").get("pairs")):
        if isinstance(name, str):
            candidates += [root / name, Path(name)]
    return next(
        (path for path in candidates if path.suffix in (".jsonl", ".parquet") and _is_file(path)), None
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # such as a name that is too long
        return False


def _read_pairs(path: Path) -> list[UGPair]:
    """Pairs without their further keys; images inside a parquet file are not read."""
    if path.suffix == ".jsonl":
        return [checked(UGPair, row, f"{path}, line {number}") for number, row in json_lines(path)]
    columns = ["similarity", *(f"{side}.{name}" for side in _SIDES for name in Annotation.model_fields)]
    rows = (row for batch in read_batches(path, columns=columns) for row in batch)
    return [checked(UGPair, row, f"{path}, row {number}") for number, row in enumerate(rows, start=1)]

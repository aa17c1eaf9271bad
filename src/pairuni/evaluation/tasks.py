"""The benchmarks by name: from files to results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast, get_args

from pairuni.evaluation.protocols import geneval_files, imgedit, mme, mmmu, mmstar, pope, wise
from pairuni.evaluation.result import Result


@dataclass(frozen=True, kw_only=True)
class OfficialFiles:
    """What a score is made of.

    paths: the official files of a model's replies or of their judging; data: the benchmark's own questions, where
    those files do not hold them; judge: who judged, a model or a detector; protocol: where there are several.
    """

    paths: Sequence[Path]
    data: Path | None = None
    judge: str | None = None
    protocol: str | None = None

    def one_path(self) -> Path:
        if len(self.paths) != 1:
            raise ValueError(f"expected one path, got {len(self.paths)}")
        return self.paths[0]

    def own_data(self, what: str) -> Path:
        if self.data is None:
            raise ValueError(f"--data is needed: {what}")
        return self.data

    def judged_by(self, what: str) -> str:
        if self.judge is None:
            raise ValueError(f"--judge is needed: {what}, because the score depends on it")
        return self.judge


def score_files(task: str, files: OfficialFiles, *, model: str | None = None) -> list[Result]:
    """The results of one benchmark, every variant that the files allow; model: its name, for the record.

    Raises ValueError for an unknown benchmark, for missing or invalid files, and OSError for
    files that cannot be read.
    """
    if task not in TASKS:
        raise ValueError(f"no benchmark is called {task!r}; known: {', '.join(TASKS)}")
    for path in files.paths:
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder")
    results = TASKS[task](files)
    if model is None:
        return results
    return [replace(result, settings={"model": model, **result.settings}) for result in results]


def _mme(files: OfficialFiles) -> list[Result]:
    answers = mme.read_answers(files.one_path())
    cognition = [mme.score(answers, cognition=True)] if set(mme.COGNITION) <= set(answers) else []
    return [mme.score(answers), *cognition]


def _pope(files: OfficialFiles) -> list[Result]:
    folder = files.own_data("the folder of coco_pope_<split>.json")
    splits = {}
    for name in pope.SPLITS:
        replies = files.one_path() / f"coco_pope_{name}.json"
        if replies.is_file():
            questions = pope.read_questions(folder / replies.name)
            splits[name] = (questions, pope.read_replies(replies, questions))
    return [pope.score(splits)]


def _mmmu(files: OfficialFiles) -> list[Result]:
    outputs = mmmu.read_outputs(files.one_path())
    return [mmmu.score(outputs), mmmu.score(outputs, guess=False)]


def _mmstar(files: OfficialFiles) -> list[Result]:
    return [mmstar.score(mmstar.read_predictions(files.one_path()))]


def _geneval(files: OfficialFiles) -> list[Result]:
    judged = geneval_files.read_results(files.one_path())
    return [geneval_files.score(judged, detector=files.judged_by("what found the objects"))]


def _wise(files: OfficialFiles) -> list[Result]:
    if files.protocol not in get_args(wise.Protocol):
        raise ValueError(f"--protocol is needed: {' or '.join(get_args(wise.Protocol))}")
    rows = wise.read_scores(files.paths)
    protocol = cast(wise.Protocol, files.protocol)
    return [wise.score(rows, protocol=protocol, judge=files.judged_by("the model that gave the marks"))]


def _imgedit(files: OfficialFiles) -> list[Result]:
    edits = imgedit.read_edits(files.own_data("the file basic_edit.json"))
    replies = imgedit.read_replies(files.one_path())
    return [imgedit.score(replies, edits, judge=files.judged_by("the model that gave the marks"))]


TASKS: Mapping[str, Callable[[OfficialFiles], list[Result]]] = {
    "mme": _mme,
    "pope": _pope,
    "mmmu": _mmmu,
    "mmstar": _mmstar,
    "geneval": _geneval,
    "wise": _wise,
    "imgedit": _imgedit,
}

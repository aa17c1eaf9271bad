"""The benchmarks by name: from files to results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast, get_args

from pairuni.config import ScoreSettings
from pairuni.evaluation.protocols import geneval_files, imgedit, mme, mmmu, mmstar, pope, wise
from pairuni.evaluation.result import Result


def score_files(settings: ScoreSettings) -> list[Result]:
    """The results of one benchmark, every variant that the files allow.

    Raises ValueError for an unknown benchmark and for missing or invalid files, and OSError for files that cannot be
    read.
    """
    if settings.task not in TASKS:
        raise ValueError(f"no benchmark is called {settings.task!r}; known: {', '.join(TASKS)}")
    for path in settings.paths:
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder")
    results = TASKS[settings.task](settings)
    if settings.model is None:
        return results
    return [replace(result, settings={"model": settings.model, **result.settings}) for result in results]


def _mme(files: ScoreSettings) -> list[Result]:
    answers = mme.read_answers(_one_path(files))
    cognition = [mme.score(answers, cognition=True)] if set(mme.COGNITION) <= set(answers) else []
    return [mme.score(answers), *cognition]


def _pope(files: ScoreSettings) -> list[Result]:
    folder = _data(files, "the folder of coco_pope_<split>.json")
    splits = {}
    for name in pope.SPLITS:
        replies = _one_path(files) / f"coco_pope_{name}.json"
        if replies.is_file():
            questions = pope.read_questions(folder / replies.name)
            splits[name] = (questions, pope.read_replies(replies, questions))
    return [pope.score(splits)]


def _mmmu(files: ScoreSettings) -> list[Result]:
    outputs = mmmu.read_outputs(_one_path(files))
    return [mmmu.score(outputs), mmmu.score(outputs, guess=False)]


def _mmstar(files: ScoreSettings) -> list[Result]:
    return [mmstar.score(mmstar.read_predictions(_one_path(files)))]


def _geneval(files: ScoreSettings) -> list[Result]:
    judged = geneval_files.read_results(_one_path(files))
    return [geneval_files.score(judged, detector=_judge(files, "what found the objects"))]


def _wise(files: ScoreSettings) -> list[Result]:
    if files.protocol not in get_args(wise.Protocol):
        raise ValueError(f"--protocol is needed: {' or '.join(get_args(wise.Protocol))}")
    rows = wise.read_scores(files.paths)
    protocol = cast(wise.Protocol, files.protocol)
    return [wise.score(rows, protocol=protocol, judge=_judge(files, "the model that gave the marks"))]


def _imgedit(files: ScoreSettings) -> list[Result]:
    edits = imgedit.read_edits(_data(files, "the file basic_edit.json"))
    replies = imgedit.read_replies(_one_path(files))
    return [imgedit.score(replies, edits, judge=_judge(files, "the model that gave the marks"))]


def _one_path(files: ScoreSettings) -> Path:
    if len(files.paths) != 1:
        raise ValueError(f"expected one path, got {len(files.paths)}")
    return files.paths[0]


def _data(files: ScoreSettings, what: str) -> Path:
    if files.data is None:
        raise ValueError(f"--data is needed: {what}")
    return files.data


def _judge(files: ScoreSettings, what: str) -> str:
    if files.judge is None:
        raise ValueError(f"--judge is needed: {what}, because the score depends on it")
    return files.judge


TASKS: Mapping[str, Callable[[ScoreSettings], list[Result]]] = {
    "mme": _mme,
    "pope": _pope,
    "mmmu": _mmmu,
    "mmstar": _mmstar,
    "geneval": _geneval,
    "wise": _wise,
    "imgedit": _imgedit,
}

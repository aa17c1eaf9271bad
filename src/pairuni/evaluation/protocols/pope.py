"""POPE (arXiv:2305.10355): yes/no questions about objects in images, three splits, by the official rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pairuni.evaluation.result import Result, part_of
from pairuni.evaluation.rows import read_rows, write_rows
from pairuni.intervals import Array, bootstrap_interval

SPLITS = ("random", "popular", "adversarial")
QUESTIONS = 9000


@dataclass(frozen=True)
class Question:
    """One question of a split; truth: whether the object is in the image."""

    image: str
    text: str
    truth: bool


def read_questions(path: Path) -> list[Question]:
    """The questions of ``coco_pope_<split>.json``, which is JSON Lines."""
    rows = read_rows(path, image=str, text=str, label=str)
    return [Question(row["image"], row["text"], row["label"] != "no") for row in rows]


def write_replies(path: Path, questions: Sequence[Question], replies: Sequence[str]) -> None:
    """Write the answers file that the official script reads."""
    write_rows(
        path,
        ({"question": q.text, "answer": reply} for q, reply in zip(questions, replies, strict=True)),
    )


def read_replies(path: Path, questions: Sequence[Question]) -> list[str]:
    """The replies of an answers file. Raises ValueError unless they answer ``questions``, in order."""
    rows = read_rows(path, question=str, answer=str)
    if len(rows) != len(questions):
        raise ValueError(f"{path} has {len(rows)} answers to {len(questions)} questions")
    for number, (row, question) in enumerate(zip(rows, questions, strict=True), start=1):
        if row["question"] != question.text:
            raise ValueError(f"{path}, answer {number}: the question is not the split's, {question.text!r}")
    return [row["answer"] for row in rows]


def says_yes(reply: str) -> bool:
    """False if "No", "no" or "not" is a word of the first sentence, ignoring commas; True for any other reply."""
    words = reply.split(".")[0].replace(",", "").split(" ")
    return not {"No", "no", "not"} & set(words)


def score(splits: Mapping[str, tuple[Sequence[Question], Sequence[str]]]) -> Result:
    """Mean F1 of the splits in percent; accuracy, precision, recall, F1 and yes-rate of each, and their means.

    splits: questions and replies by the split's name. The yes-rate is the share of replies that say yes. A precision or
    recall with a zero denominator, on which the official script fails, is 0. The interval resamples images, which the
    splits share.
    """
    if not splits:
        raise ValueError("POPE needs at least one split")
    parts: dict[str, float] = {}
    images: dict[str, Array] = {}
    for place, (name, (questions, replies)) in enumerate(splits.items()):
        tables = np.zeros(4)
        for question, reply in zip(questions, replies, strict=True):
            column = _column(question.truth, says_yes(reply))
            tables[column] += 1
            images.setdefault(question.image, np.zeros((len(splits), 4)))[place, column] += 1
        parts |= {f"{name} {key}": 100 * float(value) for key, value in _rates(tables).items()}
    for key in ("accuracy", "precision", "recall", "F1", "yes-rate"):
        parts[f"mean {key}"] = sum(parts[f"{name} {key}"] for name in splits) / len(splits)
    return Result(
        benchmark="POPE",
        protocol=part_of("official", sum(len(questions) for questions, _ in splits.values()), QUESTIONS),
        score=parts["mean F1"],
        unit=f"% F1, mean of {', '.join(splits)}",
        interval=bootstrap_interval(
            [[table.ravel().tolist() for table in images.values()]],
            lambda means: 100 * _rates(means[0].reshape(-1, len(splits), 4))["F1"].mean(axis=1),
        ),
        parts=parts,
        counts={name: len(questions) for name, (questions, _) in splits.items()},
    )


def _column(truth: bool, yes: bool) -> int:
    """The column of true positives, false positives, true negatives or false negatives."""
    return (0 if truth else 1) if yes else (3 if truth else 2)


def _rates(table: Array) -> dict[str, Array]:
    """[..., 4] counts or means of true and false positives, true and false negatives -> [...] rates."""
    true_yes, false_yes, true_no, false_no = np.moveaxis(table, -1, 0)
    total = true_yes + false_yes + true_no + false_no
    precision = _ratio(true_yes, true_yes + false_yes)
    recall = _ratio(true_yes, true_yes + false_no)
    return {
        "accuracy": (true_yes + true_no) / total,
        "precision": precision,
        "recall": recall,
        "F1": _ratio(2 * precision * recall, precision + recall),
        "yes-rate": (true_yes + false_yes) / total,
    }


def _ratio(above: Array, below: Array) -> Array:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)

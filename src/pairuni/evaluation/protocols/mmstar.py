"""MMStar (arXiv:2403.20330): 1,500 multiple-choice questions in six categories, by the official rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pairuni.evaluation.result import Result, part_of
from pairuni.evaluation.rows import read_rows, write_rows
from pairuni.intervals import wilson_interval

CATEGORIES = (
    "coarse perception",
    "fine-grained perception",
    "instance reasoning",
    "logical reasoning",
    "math",
    "science & technology",
)
QUESTIONS = 1500
_LEADS = ("", "(", "option ", "the answer is ")


def read_predictions(path: Path) -> list[dict[str, Any]]:
    """Rows of JSON Lines with the columns of the official table: answer, category, prediction and others."""
    return read_rows(path, answer=str, category=str, prediction=str)


def write_predictions(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows that ``read_predictions`` reads."""
    write_rows(path, rows)


def is_right(prediction: str, answer: str) -> bool:
    """Whether the reply begins with the answer's letter, bare or after "(", "option " or "the answer is ".

    As in the official script, "a man" counts as A.
    """
    said = prediction.lower().strip().replace("\n", " ")
    letter = answer.lower().strip()
    return any(said.startswith(lead + letter) for lead in _LEADS)


def score(rows: Sequence[Mapping[str, Any]]) -> Result:
    """Share of correct answers in percent, over all questions and by category.

    Raises ValueError for an unknown category and for a duplicate question.
    """
    indices = Counter(str(row["index"]) for row in rows if "index" in row)
    if twice := [index for index, count in indices.items() if count > 1]:
        raise ValueError(
            f"MMStar's question {twice[0]} is answered {indices[twice[0]]} times; each counts once"
        )
    right: dict[str, list[float]] = {name: [] for name in CATEGORIES}
    for row in rows:
        if row["category"] not in right:
            raise ValueError(f"MMStar has no category {row['category']!r}; known: {', '.join(CATEGORIES)}")
        right[row["category"]].append(float(is_right(str(row["prediction"]), str(row["answer"]))))
    every = [hit for hits in right.values() for hit in hits]
    if not every:
        raise ValueError("MMStar needs at least one answered question")
    low, high = wilson_interval(sum(every) / len(every), len(every))
    return Result(
        benchmark="MMStar",
        protocol=part_of("official", len(every), QUESTIONS),
        score=100 * sum(every) / len(every),
        unit="% of all questions",
        interval=(100 * low, 100 * high),
        parts={name: 100 * sum(hits) / len(hits) for name, hits in right.items() if hits},
        counts={name: len(hits) for name, hits in right.items()},
    )

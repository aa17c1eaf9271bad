"""MME (arXiv:2306.13394): 14 files of yes/no questions, two an image, by the official rules.

A file is ``<category>.txt``; a line holds image, question, truth and reply, separated by tabs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pairuni.evaluation.result import Result, part_of
from pairuni.intervals import bootstrap_interval
from pairuni.io.files import write_text
from pairuni.io.text import text_lines

PERCEPTION = (
    "existence",
    "count",
    "position",
    "color",
    "posters",
    "celebrity",
    "scene",
    "landmark",
    "artwork",
    "OCR",
)
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")
QUESTIONS = {PERCEPTION: 2114, COGNITION: 260}
_BREAK = re.compile(r"[\t\r\n]")


@dataclass(frozen=True)
class Answered:
    """One question with its truth, Yes or No, and a model's reply."""

    image: str
    question: str
    truth: str
    reply: str


def said(reply: str) -> str:
    """yes, no or other: the whole reply in lower case, else what its first four characters contain."""
    start = reply.lower()[:4]
    return next((word for word in ("yes", "no") if word in start), "other")


def read_answers(folder: Path) -> dict[str, list[Answered]]:
    """The answered questions of each category whose file is in ``folder``.

    Raises ValueError naming file and line when a line has not four fields, or two lines in turn are not of one
    image.
    """
    return {
        category: _read(folder / f"{category}.txt")
        for category in PERCEPTION + COGNITION
        if (folder / f"{category}.txt").is_file()
    }


def write_answers(folder: Path, answers: Mapping[str, Sequence[Answered]]) -> None:
    """Write the files that the official script reads; a tab or line end within a reply becomes a space, for the rules
    look at the first four characters, blanks included."""
    for category, rows in answers.items():
        lines = ["\t".join([r.image, r.question, r.truth, _BREAK.sub(" ", r.reply)]) for r in rows]
        write_text(folder / f"{category}.txt", "".join(line + "\n" for line in lines))


def score(answers: Mapping[str, Sequence[Answered]], *, cognition: bool = False) -> Result:
    """MME-Perception (at most 2000), or MME-Cognition (at most 800).

    A category's score is 100 times accuracy plus 100 times accuracy+, the share of images with both questions
    right. Raises ValueError naming a category that is missing.
    """
    categories = COGNITION if cognition else PERCEPTION
    missing = [name for name in categories if not answers.get(name)]
    if missing:
        raise ValueError(f"MME needs every category's answers; missing: {', '.join(missing)}")
    parts: dict[str, float] = {}
    images: list[list[float]] = []
    for name in categories:
        right = [said(row.reply) == row.truth.lower() for row in answers[name]]
        both = [one and other for one, other in zip(right[::2], right[1::2], strict=True)]
        parts[name] = sum(right) / len(right) * 100 + sum(both) / len(both) * 100
        pairs = zip(right[::2], right[1::2], strict=True)
        images.append([50.0 * (one + other) + 100.0 * (one and other) for one, other in pairs])
    return Result(
        benchmark="MME-Cognition" if cognition else "MME-Perception",
        protocol=part_of("official", sum(map(len, images)) * 2, QUESTIONS[categories]),
        score=sum(parts.values()),
        unit=f"of {200 * len(categories)}, the sum of {len(categories)} categories",
        interval=bootstrap_interval(images, lambda means: sum(means[1:], means[0])),
        parts=parts,
        counts={name: len(answers[name]) for name in categories},
    )


def _read(path: Path) -> list[Answered]:
    rows: list[Answered] = []
    for number, line in text_lines(path):
        fields = line.split("\t", 3)
        if len(fields) != 4:
            raise ValueError(f"{path}, line {number}: expected image, question, truth and reply between tabs")
        rows.append(Answered(*fields))
        if len(rows) % 2 == 0 and rows[-1].image != rows[-2].image:
            raise ValueError(f"{path}, line {number}: the second question is not of the first one's image")
    if len(rows) % 2:
        raise ValueError(f"{path}: the last image has one question instead of two")
    return rows

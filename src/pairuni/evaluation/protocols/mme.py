"""MME (arXiv:2306.13394): 14 files of yes/no questions, two per image, scored by the official rules.

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
    """yes, no or other: the first of "yes" and "no" that the first four characters contain, in lower case."""
    start = reply.lower()[:4]
    return next((word for word in ("yes", "no") if word in start), "other")


def read_questions(data: Path) -> dict[str, list[Answered]]:
    """The questions of each category with empty replies, from the release's folders or the evaluation tool's files.

    Raises ValueError naming a file that is not MME's.
    """
    found = {}
    for name in PERCEPTION + COGNITION:
        if (data / f"{name}.txt").is_file():
            found[name] = _questions_of_tool(data / f"{name}.txt")
        elif (data / name).is_dir():
            found[name] = _questions_of_release(data / name)
    return {name: rows for name, rows in found.items() if rows}


def image_folder(category: Path) -> Path:
    """Where the images of a category's folder are; some categories keep them in a subfolder."""
    return category / "images" if (category / "images").is_dir() else category


def read_answers(folder: Path) -> dict[str, list[Answered]]:
    """The answered questions of each category whose file is in ``folder``.

    Raises ValueError naming file and line when a line does not have four fields or two consecutive lines do not
    belong to one image.
    """
    return {
        category: _read(folder / f"{category}.txt")
        for category in PERCEPTION + COGNITION
        if (folder / f"{category}.txt").is_file()
    }


def write_answers(folder: Path, answers: Mapping[str, Sequence[Answered]]) -> None:
    """Write the files that the official script reads.

    Tabs and line breaks in replies become spaces: the rules read the first four characters, spaces included.
    """
    for category, rows in answers.items():
        lines = ["\t".join([r.image, r.question, r.truth, _BREAK.sub(" ", r.reply)]) for r in rows]
        write_text(folder / f"{category}.txt", "".join(line + "\n" for line in lines))


def score(answers: Mapping[str, Sequence[Answered]], *, cognition: bool = False) -> Result:
    """MME-Perception (at most 2000), or MME-Cognition (at most 800).

    A category's score is 100 times accuracy plus 100 times accuracy+, the share of images with both answers
    correct. Raises ValueError naming a missing category.
    """
    categories = COGNITION if cognition else PERCEPTION
    missing = [name for name in categories if not answers.get(name)]
    if missing:
        raise ValueError(f"MME needs answers of every category; missing: {', '.join(missing)}")
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


def _questions_of_tool(path: Path) -> list[Answered]:
    """Lines of image, question, truth and a reply, which is ignored."""
    lines = _split_lines(path, 3, "image, question and truth, separated by tabs")
    rows = [Answered(image, question, truth, "") for image, question, truth, *_ in lines]
    pairs = zip(rows[::2], rows[1::2], strict=False)
    if len(rows) % 2 or any(one.image != other.image for one, other in pairs):
        raise ValueError(f"{path}: expected two consecutive lines for each image")
    return rows


def _questions_of_release(folder: Path) -> list[Answered]:
    """A text file for each image, with two lines of question and truth."""
    texts = folder / "questions_answers_YN"
    images = {path.stem: path.name for path in image_folder(folder).glob("*") if path.suffix != ".txt"}
    rows = []
    for path in sorted((texts if texts.is_dir() else folder).glob("*.txt")):
        lines = _split_lines(path, 2, "question and truth, separated by a tab")
        if len(lines) != 2:
            raise ValueError(f"{path}: expected two questions, found {len(lines)}")
        image = images.get(path.stem, f"{path.stem}.jpg")
        rows += [Answered(image, question, truth, "") for question, truth, *_ in lines]
    return rows


def _split_lines(path: Path, count: int, expected: str) -> list[list[str]]:
    rows = []
    for number, line in text_lines(path):
        fields = [field.strip() for field in line.split("\t")]
        if len(fields) < count:
            raise ValueError(f"{path}, line {number}: expected {expected}")
        rows.append(fields)
    return rows


def _read(path: Path) -> list[Answered]:
    rows: list[Answered] = []
    for number, line in text_lines(path):
        fields = line.split("\t", 3)
        if len(fields) != 4:
            raise ValueError(
                f"{path}, line {number}: expected image, question, truth and reply, separated by tabs"
            )
        rows.append(Answered(*fields))
        if len(rows) % 2 == 0 and rows[-1].image != rows[-2].image:
            raise ValueError(f"{path}, line {number}: the two questions belong to different images")
    if len(rows) % 2:
        raise ValueError(f"{path}: the last image has one question instead of two")
    return rows

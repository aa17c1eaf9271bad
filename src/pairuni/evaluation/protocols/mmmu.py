"""MMMU validation (arXiv:2311.16502): 900 questions of 30 subjects, by the official rules.

A model's replies are in ``<Subject>/output.json``, an array of objects with id, question_type, answer, response
and, for multiple choice, all_choices and index2ans.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pairuni.evaluation.protocols.mmmu_replies import choice_in, is_right, values_in
from pairuni.evaluation.result import Result, part_of
from pairuni.evaluation.rows import checked, read_list
from pairuni.intervals import wilson_interval
from pairuni.io.files import write_text

DOMAINS: Mapping[str, tuple[str, ...]] = {
    "Art and Design": ("Art", "Art_Theory", "Design", "Music"),
    "Business": ("Accounting", "Economics", "Finance", "Manage", "Marketing"),
    "Science": ("Biology", "Chemistry", "Geography", "Math", "Physics"),
    "Health and Medicine": (
        "Basic_Medical_Science",
        "Clinical_Medicine",
        "Diagnostics_and_Laboratory_Medicine",
        "Pharmacy",
        "Public_Health",
    ),
    "Humanities and Social Science": ("History", "Literature", "Psychology", "Sociology"),
    "Tech and Engineering": (
        "Agriculture",
        "Architecture_and_Engineering",
        "Computer_Science",
        "Electronics",
        "Energy_and_Power",
        "Materials",
        "Mechanical_Engineering",
    ),
}
SUBJECTS = tuple(sorted(subject for subjects in DOMAINS.values() for subject in subjects))
QUESTIONS = 900
_SEED = 42
"""Seed of the official script, set once before the first subject."""

Outputs = Mapping[str, Sequence[Mapping[str, Any]]]


def read_outputs(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Replies by subject. Raises ValueError naming an invalid file, or if there is none."""
    outputs = {
        subject: _read(folder / subject / "output.json")
        for subject in SUBJECTS
        if (folder / subject / "output.json").is_file()
    }
    if not outputs:
        raise ValueError(f"{folder} has no <Subject>/output.json of MMMU")
    return outputs


def _read(path: Path) -> list[dict[str, Any]]:
    rows = read_list(path, id=str, question_type=str, answer=(str, list), response=str)
    for row in rows:
        where = f"{path}, question {row['id']}"
        texts = row["answer"] if isinstance(row["answer"], list) else []
        if row["question_type"] == "multiple-choice":
            checked(row, where, {"all_choices": list, "index2ans": dict})
            texts = [*texts, *row["all_choices"], *row["index2ans"].values()]
            if not row["all_choices"]:
                raise ValueError(f"{where}: all_choices is empty")
        if wrong := [one for one in texts if not isinstance(one, str)]:
            raise ValueError(f"{where}: answers and choices must be strings, not {wrong[0]!r}")
    return rows


def write_outputs(folder: Path, outputs: Outputs) -> None:
    """Write the files that the official script reads."""
    for subject, rows in outputs.items():
        write_text(folder / subject / "output.json", json.dumps(list(rows), indent=2) + "\n")


def score(outputs: Outputs, *, guess: bool = True) -> Result:
    """Share of correct answers in percent, over all questions, by subject and by domain.

    guess: as in the official script, a reply that names no choice is replaced by a random one, with the script's seed
    and the subjects in alphabetical order; if False, it is wrong. The counts include the number of such replies.
    Raises ValueError for an unknown subject and for a duplicate question.
    """
    unknown = sorted(set(outputs) - set(SUBJECTS))
    if unknown:
        raise ValueError(f"MMMU has no subject {', '.join(unknown)}")
    ids = Counter(row["id"] for rows in outputs.values() for row in rows)
    if twice := [id for id, count in ids.items() if count > 1]:
        raise ValueError(f"MMMU's question {twice[0]} is answered {ids[twice[0]]} times; each counts once")
    draw = random.Random(_SEED)
    marks: dict[str, list[float]] = {}
    unread = 0
    for subject in (subject for subject in SUBJECTS if outputs.get(subject)):
        marks[subject] = []
        for row in outputs[subject]:
            if row["question_type"] != "multiple-choice":
                right = is_right(values_in(row["response"]), row["answer"])
            else:
                choice = choice_in(row["response"], row["all_choices"], row["index2ans"])
                if choice is None:
                    unread += 1
                    choice = draw.choice(row["all_choices"]) if guess else None
                truth = row["answer"]
                right = choice in truth if isinstance(truth, list) else choice == truth
            marks[subject].append(float(right))
    every = [mark for subject in marks.values() for mark in subject]
    if not every:
        raise ValueError("MMMU needs at least one reply")
    groups = marks | {
        domain: [mark for subject in subjects for mark in marks.get(subject, [])]
        for domain, subjects in DOMAINS.items()
    }
    low, high = wilson_interval(sum(every) / len(every), len(every))
    return Result(
        benchmark="MMMU validation",
        protocol=part_of("official" if guess else "official, no random guess", len(every), QUESTIONS),
        score=100 * sum(every) / len(every),
        unit="% of all questions",
        interval=(100 * low, 100 * high),
        parts={name: 100 * sum(group) / len(group) for name, group in groups.items() if group},
        counts={"all": len(every), "right": int(sum(every)), "no choice found": unread}
        | {name: len(group) for name, group in groups.items() if group},
    )

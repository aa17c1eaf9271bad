"""ImgEdit-Bench Basic (arXiv:2505.20275): a judge's scores of edited images, 1 to 5, by the official rules."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pairuni.evaluation.result import Result, part_of
from pairuni.evaluation.rows import checked, read_json
from pairuni.intervals import bootstrap_interval
from pairuni.io.files import write_text

TYPES = ("add", "adjust", "extract", "replace", "remove", "background", "style", "compose", "action")
EDITS = 737
PROTOCOL = "official marks, micro"


def mark_in(reply: str) -> float | None:
    """Mean of the scores in a judge's reply, rounded to two places; None if no line is a name, ": " and digits."""
    marks = []
    for line in reply.splitlines():
        parts = line.strip().split(": ")
        if len(parts) == 2 and parts[1].isdecimal():
            marks.append(int(parts[1]))
    return round(sum(marks) / len(marks), 2) if marks else None


def read_edits(path: Path) -> dict[str, dict[str, Any]]:
    """The edits of basic_edit.json by key: id of the source image, prompt and edit_type."""
    edits = checked(read_json(path), str(path), {})
    if not all(isinstance(edit, dict) and edit.get("edit_type") in TYPES for edit in edits.values()):
        raise ValueError(f"{path} is not ImgEdit's basic_edit.json: an edit has an unknown edit_type")
    return edits


def read_replies(path: Path) -> dict[str, str]:
    """The judge's raw replies by edit. Raises ValueError naming an edit without a reply."""
    replies = checked(read_json(path), str(path), {})
    failed = [key for key, reply in replies.items() if not isinstance(reply, str)]
    if failed:
        raise ValueError(
            f"{path}: edit {failed[0]} has {replies[failed[0]]!r} instead of a reply; judge it again"
        )
    return replies


def write_replies(path: Path, replies: Mapping[str, str]) -> None:
    """Write the result.json that the official scripts read."""
    write_text(path, json.dumps(dict(replies), indent=2, ensure_ascii=False) + "\n")


def score(replies: Mapping[str, str], edits: Mapping[str, Mapping[str, Any]], *, judge: str) -> Result:
    """Mean mark over all edits (micro), from 1 to 5; the mean of the types' means (macro) is among the parts.

    The official scripts compute no overall score. As there, replies without a mark are ignored; they are counted. The
    types' means are not rounded. Raises ValueError for a reply to an unknown edit, or if no reply has a mark.
    """
    unknown = [key for key in replies if key not in edits]
    if unknown:
        raise ValueError(f"ImgEdit has no edit {unknown[0]}")
    marks = {key: mark_in(reply) for key, reply in replies.items()}
    types: dict[str, list[float]] = {name: [] for name in TYPES}
    for key, mark in marks.items():
        if mark is not None:
            types[edits[key]["edit_type"]].append(mark)
    types = {name: found for name, found in types.items() if found}
    every = [mark for found in types.values() for mark in found]
    if not every:
        raise ValueError("no reply of the judge has a mark")
    means = {name: sum(found) / len(found) for name, found in types.items()}
    sizes = np.array([len(found) for found in types.values()])
    return Result(
        benchmark="ImgEdit-Bench Basic",
        protocol=part_of(PROTOCOL, len(replies), EDITS),
        score=sum(every) / len(every),
        unit="of 5, mean over edits",
        interval=bootstrap_interval(
            list(types.values()), lambda drawn: np.average(np.stack(drawn), axis=0, weights=sizes)
        ),
        parts={"micro": sum(every) / len(every), "macro": sum(means.values()) / len(means), **means},
        counts={"marked": len(every), "no mark": len(marks) - len(every)}
        | {"not judged": len(edits) - len(replies)}
        | {name: len(found) for name, found in types.items()},
        settings={"judge": judge},
    )

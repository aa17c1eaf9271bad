"""Readers of raw data: JSONL with images beside it. Unknown keys stay on the record."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any, TypeVar

from pairuni.pairug.images import path_fault
from pairuni.pairug.jsonl import Problem, iter_objects, raise_first, validate
from pairuni.records import GenerationSample, UnderstandingSample

Sample = TypeVar("Sample", UnderstandingSample, GenerationSample)


def read_understanding(path: Path) -> list[UnderstandingSample]:
    """The understanding set U: lines of image_path, question, answer and, if given, id and tag.

    ``image_path`` is relative to the file and must stay in its folder; the samples returned carry it joined
    to that folder, ready to open. A line without ``id`` gets one derived from its content.
    Raises FileNotFoundError, or ValueError naming file, line, field and reason; an empty set is one.
    """
    return _read(path, UnderstandingSample, "understanding")


def read_generation(path: Path) -> list[GenerationSample]:
    """The generation set G: lines of image_path, prompt and, if given, id and tag. Else as above."""
    return _read(path, GenerationSample, "generation")


def _read(path: Path, kind: type[Sample], corpus: str) -> list[Sample]:
    samples: list[Sample] = []
    problems: list[Problem] = []
    line_of: dict[str, int] = {}
    repeats: Counter[str] = Counter()
    for number, values in iter_objects(path):
        if isinstance(values, Problem):
            problems.append(values)
            continue
        sample = validate(path, number, {"id": _derived_id(values, repeats), **values}, kind)
        if isinstance(sample, list):
            problems += sample
            continue
        fault = path_fault(path.parent, sample.image_path)
        if fault is not None:
            problems.append(Problem(path, number, "image_path", f"{sample.image_path!r} {fault}"))
        if sample.id in line_of:
            reason = f"{sample.id!r} is also that of line {line_of[sample.id]}; ids must differ"
            problems.append(Problem(path, number, "id", reason))
        line_of.setdefault(sample.id, number)
        samples.append(sample.model_copy(update={"image_path": str(path.parent / sample.image_path)}))
    raise_first(problems)
    if not samples:
        raise ValueError(f"{path}: the {corpus} set is empty; it needs at least one sample")
    return samples


def _derived_id(values: dict[str, Any], repeats: Counter[str]) -> str:
    """From the line's content, so that it outlives reordering; a line that repeats another is numbered."""
    derived = hashlib.blake2b(
        repr(sorted(values.items())).encode("utf-8", "replace"), digest_size=8
    ).hexdigest()
    repeats[derived] += 1
    return derived if repeats[derived] == 1 else f"{derived}-{repeats[derived]}"

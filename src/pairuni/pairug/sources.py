"""Readers of raw data: JSONL with images beside it. Unknown keys stay on the record."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pairuni.pairug.jsonl import read_records
from pairuni.records import GenerationSample, UnderstandingSample

Sample = TypeVar("Sample", UnderstandingSample, GenerationSample)


def read_understanding(path: Path) -> list[UnderstandingSample]:
    """The understanding set U: lines of id, image_path, question, answer and, if given, tag.

    Raises FileNotFoundError, or ValueError naming file, line, field and reason; an empty set is one.
    """
    return _whole(path, read_records(path, UnderstandingSample), "understanding")


def read_generation(path: Path) -> list[GenerationSample]:
    """The generation set G: lines of id, image_path, prompt and, if given, tag. Raises as above."""
    return _whole(path, read_records(path, GenerationSample), "generation")


def _whole(path: Path, samples: list[Sample], corpus: str) -> list[Sample]:
    if not samples:
        raise ValueError(f"{path}: the {corpus} set is empty")
    seen: set[str] = set()
    for sample in samples:
        if sample.id in seen:
            raise ValueError(f"{path}: the id {sample.id!r} appears twice")
        seen.add(sample.id)
    return samples

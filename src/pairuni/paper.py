"""The paper's published figures (arXiv:2510.25682), from paper.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

MODEL_TABLES = ("understanding", "wise", "geneval", "backbones")
"""Tables whose rows are models; those of the others are rows of an ablation."""


@dataclass(frozen=True)
class PaperBenchmark:
    """A benchmark by its name in the paper's tables.

    result: as our results name it. task: of ``pairuni eval``. unit: the paper's figures are multiplied by it.
    """

    result: str
    task: str
    unit: float


@dataclass(frozen=True)
class Figure:
    """A score that the paper prints, and its parts by name, in the unit of our results. table: its title."""

    score: float
    parts: Mapping[str, float]
    table: str


@dataclass(frozen=True)
class PairCounts:
    """What the paper says about PairUG-16k.

    origins: of aligned pairs. classes: the numbers of pairs of those that it names. most_similarities: where most
    similarities of retrieved pairs are.
    """

    pairs: int
    aligned: int
    retrieved: int
    origins: Mapping[str, int]
    aligned_classes: Mapping[str, int]
    retrieved_classes: Mapping[str, int]
    most_similarities: tuple[float, float]


@cache
def published() -> dict[str, dict[str, Figure]]:
    """Row -> benchmark, as our results name it -> figure.

    A row is a model, with its figures of several tables, or TABLE/ROW of an ablation: PairUni-1B, pairing/random pairs.
    """
    values = _values()
    rows: dict[str, dict[str, Figure]] = {}
    for name, table in values.items():
        if not isinstance(table, dict) or "rows" not in table:
            continue
        for row, figures in table["rows"].items():
            key = row if name in MODEL_TABLES else f"{name}/{row}"
            rows.setdefault(key, {}).update(_figures(table, figures))
    return rows


@cache
def pair_counts() -> PairCounts:
    """The paper's numbers of pairs."""
    values = _values()["pairs"]
    return PairCounts(**{**values, "most_similarities": tuple(values["most_similarities"])})


@cache
def benchmarks() -> dict[str, PaperBenchmark]:
    """The benchmarks by their names in the paper's tables: MMMU, MME-P, ..."""
    return {name: PaperBenchmark(**one) for name, one in _values()["benchmarks"].items()}


def _figures(table: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Figure]:
    found = {}
    for name, one in benchmarks().items():
        if name in row:
            parts = dict(zip(table.get("parts", ()), row.get("parts", ()), strict=False))
            scaled = {part: round(one.unit * value, 2) for part, value in parts.items()}
            found[one.result] = Figure(round(one.unit * row[name], 2), scaled, table["title"])
    return found


def _values() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))

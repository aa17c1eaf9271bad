"""The gradient agreement of data mixes: the files of ``pairuni agreement``, and their statistics."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from pairuni.intervals import bootstrap_interval, median_interval
from pairuni.io.files import write_text
from pairuni.runs.history import settings_changes, shown
from pairuni.runs.metrics import AGREEMENT, MetricsLog
from pairuni.runs.reading import Count, Number, Part, checked, read_json, read_rows

Mix = Literal["pairug", "retrieved", "low-similarity", "understanding-only", "generation-only", "random"]
MIXES: tuple[Mix, ...] = get_args(Mix)
"""The paper's six data mixes (arXiv:2510.25682); all but low-similarity are values of data.pairing."""
PAPER: Mapping[Mix, float] = {"pairug": 0.120, "generation-only": 0.059, "random": 0.059}
"""The medians that the paper states."""
BASELINE: Mix = "random"
"""The mix with which the others are compared."""
_FEWEST = 10
"""Batches that an interval needs at least: the bootstrap of fewer values is too narrow."""


class BatchAgreement(Part):
    """A line of agreement.jsonl: a batch of a mix. agreement: as ``pairgrpo.agreement.cosines`` returns it."""

    mix: Mix
    batch: Count
    agreement: dict[str, Number]
    understanding_reward: Number
    generation_reward: Number
    seconds: Number


@dataclass(frozen=True)
class MixesFolder:
    """The folder of ``pairuni agreement``."""

    root: Path

    @property
    def settings(self) -> Path:
        return self.root / "settings.json"

    @property
    def batches(self) -> Path:
        return self.root / "agreement.jsonl"

    @property
    def page(self) -> Path:
        return self.root / "agreement.html"

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Record the settings, or compare them with the recorded ones; drop an incomplete last line.

        Raises ValueError naming the first setting with another value.
        """
        recorded = read_json(self.settings)
        for key, (was, now) in settings_changes(recorded, settings).items():
            raise ValueError(
                f"{self.root} holds batches of other settings: {key} was {shown(was)}, is {shown(now)}; choose another "
                "folder with --out"
            )
        write_text(self.settings, json.dumps(_joined(recorded, settings), indent=2) + "\n")
        if self.batches.exists():
            rows = [json.dumps(row, ensure_ascii=False) for _, row in read_rows(self.batches)]
            write_text(self.batches, "".join(f"{row}\n" for row in rows))

    def append(self, batch: BatchAgreement) -> None:
        MetricsLog(self.batches).append(batch.model_dump(mode="json"))

    def read(self) -> list[BatchAgreement]:
        """All complete lines. Raises ValueError naming a line that is wrong."""
        return [checked(BatchAgreement, row, where) for where, row in read_rows(self.batches)]


@dataclass(frozen=True)
class MixStatistics:
    """The agreement of one mix over its batches.

    without: number of batches without a cosine, because one of the gradients is zero. values: the others, by batch.
    groups: median by group of parameters.
    """

    mix: Mix
    without: int
    values: Mapping[int, float]
    groups: Mapping[str, float]

    @property
    def median(self) -> float:
        return float(np.median(list(self.values.values())))

    @property
    def median_interval(self) -> tuple[float, float] | None:
        """95%, bootstrap over batches."""
        return median_interval(list(self.values.values())) if len(self.values) >= _FEWEST else None

    @property
    def quartiles(self) -> tuple[float, float]:
        low, high = np.quantile(list(self.values.values()), (0.25, 0.75))
        return float(low), float(high)

    @property
    def mean(self) -> float:
        return float(np.mean(list(self.values.values())))

    @property
    def mean_interval(self) -> tuple[float, float] | None:
        """95%, bootstrap over batches."""
        return _mean_interval(list(self.values.values()))

    def difference(self, other: MixStatistics) -> tuple[float, tuple[float, float] | None] | None:
        """Mean difference to another mix over the batches that both have, and its 95% interval; None without any."""
        differences = [
            value - other.values[batch] for batch, value in self.values.items() if batch in other.values
        ]
        if not differences:
            return None
        return float(np.mean(differences)), _mean_interval(differences)


def mix_statistics(batches: Sequence[BatchAgreement]) -> list[MixStatistics]:
    """Statistics of the mixes that have a batch with a cosine, in the order of ``MIXES``."""
    found = []
    for mix in MIXES:
        own = [one for one in batches if one.mix == mix]
        values = {one.batch: one.agreement[AGREEMENT] for one in own if AGREEMENT in one.agreement}
        if values:
            names = dict.fromkeys(name for one in own for name in one.agreement if name != AGREEMENT)
            groups = {
                name.removeprefix(f"{AGREEMENT}/"): float(
                    np.median([one.agreement[name] for one in own if name in one.agreement])
                )
                for name in names
            }
            found.append(MixStatistics(mix, len(own) - len(values), values, groups))
    return found


def statistics_table(found: Sequence[MixStatistics]) -> list[list[str]]:
    """The statistics as rows of text, the headings first."""
    baseline = next((one for one in found if one.mix == BASELINE), None)
    heading = ["mix", "batches", "no cosine", "median (95%)", "quartiles", "mean (95%)"]
    rows = [[*heading, f"minus {BASELINE} (95%)", "paper's median"]]
    for one in found:
        difference = None if baseline is None or one is baseline else one.difference(baseline)
        low, high = one.quartiles
        rows.append(
            [
                one.mix,
                str(len(one.values) + one.without),
                str(one.without),
                _with_interval(one.median, one.median_interval),
                f"{_number(low)} to {_number(high)}",
                _with_interval(one.mean, one.mean_interval),
                "" if difference is None else _with_interval(*difference),
                f"{PAPER[one.mix]:.3f}" if one.mix in PAPER else "",
            ]
        )
    return rows


def groups_table(found: Sequence[MixStatistics]) -> list[list[str]]:
    """Medians by group of parameters, a column for each mix, the headings first."""
    names = sorted({name for one in found for name in one.groups})
    rows = [["part", *(one.mix for one in found)]]
    for name in names:
        rows.append([name, *(_number(one.groups[name]) if name in one.groups else "" for one in found)])
    return rows


def _mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    return bootstrap_interval([values], lambda means: means[0]) if len(values) >= _FEWEST else None


def _with_interval(value: float, interval: tuple[float, float] | None) -> str:
    return _number(value) + (
        "" if interval is None else f" ({_number(interval[0])} to {_number(interval[1])})"
    )


def _number(value: float) -> str:
    return f"{value:.4f}".replace("-", "−")


def _joined(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Both, tables of both by key."""
    joined = dict(recorded)
    for key, value in now.items():
        both = isinstance(value, Mapping) and isinstance(recorded.get(key), Mapping)
        joined[key] = {**recorded[key], **value} if both else value
    return joined

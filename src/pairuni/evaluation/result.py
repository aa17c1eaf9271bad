"""What a benchmark's score is made of, as JSON and as a table."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pairuni.files import write_text


@dataclass(frozen=True, kw_only=True)
class Result:
    """One score of one benchmark.

    benchmark: name; protocol: whose rules the score follows, and which variant; score: the headline, in the
    benchmark's own ``unit``; interval: 95% bootstrap of the headline; parts: every other score by name; counts:
    how many items each part has, and how many were left out; settings: prompt set, judge and whatever else the
    number depends on.
    """

    benchmark: str
    protocol: str
    score: float
    unit: str
    interval: tuple[float, float]
    parts: Mapping[str, float]
    counts: Mapping[str, int]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def slug(self) -> str:
        """Benchmark and protocol as a file's name."""
        return re.sub(r"[^a-z0-9]+", "-", f"{self.benchmark} {self.protocol}".lower())

    def write(self, path: Path) -> None:
        """Write the result as one JSON object."""
        write_text(path, json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")

    def table(self) -> str:
        """Lines for people: headline and interval, then every part with its number of items."""
        low, high = self.interval
        lines = [
            f"{self.benchmark} ({self.protocol}): {self.score:.2f} [{low:.2f}, {high:.2f}] {self.unit}",
            *(f"  {name:<36}{self._shown(name, value)}" for name, value in self.parts.items()),
        ]
        return "\n".join(lines)

    def _shown(self, name: str, value: float) -> str:
        count = self.counts.get(name)
        return f"{value:10.2f}" + (f"  ({count} items)" if count is not None else "")


def read_result(path: Path) -> Result:
    """Read what ``Result.write`` wrote. Raises ValueError when the file is something else."""
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        return Result(**{**row, "interval": tuple(row["interval"])})
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is not a benchmark result: {error}") from error

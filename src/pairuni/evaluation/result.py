"""Benchmark results: scores and their settings, as JSON and as a table."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from pairuni.io.files import write_text

_DECISIVE = ("detector", "judge", "judge prompt", "prompts", "subset")
_LONGEST = 100


def slug(text: str) -> str:
    """A text as part of a file name: lower case, words joined by hyphens, the end of a long text."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[-_LONGEST:]


@dataclass(frozen=True, kw_only=True)
class Result:
    """One score of one benchmark.

    benchmark: name. protocol: the scoring rules and their variant. score: the headline. unit: of the score, such as %.
    interval: 95% interval of the headline, None if there are too few or too similar items. parts: all other scores by
    name. counts: number of items of each part, and of excluded items. settings: prompt set, judge and whatever else the
    score depends on.
    """

    benchmark: str
    protocol: str
    score: float
    unit: str
    interval: tuple[float, float] | None
    parts: Mapping[str, float]
    counts: Mapping[str, int]
    settings: Mapping[str, Any] = field(default_factory=dict)

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    @property
    def slug(self) -> str:
        """Benchmark, protocol and judge as a file name."""
        name = re.sub(r" \(.*?\)", "", self.protocol)
        judges = [slug(str(self.settings[key])) for key in ("detector", "judge") if key in self.settings]
        return "-".join([slug(f"{self.benchmark} {name}"), *judges])

    @property
    def conditions(self) -> str:
        """What the score depends on besides the protocol, as text: detector, judge, prompts, subset."""
        return "; ".join(f"{key} {self.settings[key]}" for key in _DECISIVE if key in self.settings)

    def write(self, path: Path) -> None:
        """Write the result to the file ``path``, as one JSON object."""
        write_text(path, json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")

    def table(self) -> str:
        """The result as text: headline and interval, every part with its number of items, the other counts."""
        span = "" if self.interval is None else f" [{self.interval[0]:.2f}, {self.interval[1]:.2f}]"
        lines = [
            f"{self.benchmark} ({self.protocol}): {self.score:.2f}{span} {self.unit}",
            *([f"  {self.conditions}"] if self.conditions else []),
            *(f"  {name:<36}{self._shown(name, value)}" for name, value in self.parts.items()),
        ]
        if others := [f"{name} {count:,}" for name, count in self.counts.items() if name not in self.parts]:
            lines.append(f"  counts: {', '.join(others)}")
        return "\n".join(lines)

    def _shown(self, name: str, value: float) -> str:
        count = self.counts.get(name)
        return f"{value:10.2f}" + (f"  ({count} items)" if count is not None else "")


_FORM = TypeAdapter(Result)


def read_result(path: str | Path) -> Result:
    """Read the file ``path``, which ``Result.write`` wrote. Raises ValueError if it is invalid."""
    try:
        return _FORM.validate_json(Path(path).read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(
            f"{path} is not a benchmark result: {where + ': ' if where else ''}{first['msg']}"
        ) from None


def part_of(protocol: str, count: int, full: int) -> str:
    """The protocol, marked as partial if ``count`` items are not the ``full`` benchmark."""
    return protocol if count == full else f"{protocol}, partial ({count:,} of {full:,})"

"""Comparison of results with each other and with the paper's figures (arXiv:2510.25682)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pairuni.evaluation.protocols.geneval_files import TASKS
from pairuni.evaluation.protocols.wise import BUCKETS
from pairuni.evaluation.result import Result

_OFFICIAL = {"official", "official, no random guess", "official rules", "legacy"}
_MOST_PARTS = 10
"""Benchmarks with more parts than this show only the headline."""


def _parts(names: Sequence[str], overall: float, *values: float) -> dict[str, float]:
    return {"": overall, **dict(zip(names, values, strict=True))}


_WISE, _GENEVAL = tuple(BUCKETS["legacy"]), TASKS
PUBLISHED: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    "MME-Perception": {
        "Janus-Pro-1B": {"": 1444.0},
        "PairUni-1B": {"": 1483.2},
        "Janus-Pro-7B": {"": 1567.1},
        "PairUni-7B": {"": 1597.7},
    },
    "POPE": {
        "Janus-Pro-1B": {"": 86.2},
        "PairUni-1B": {"": 86.4},
        "Janus-Pro-7B": {"": 87.4},
        "PairUni-7B": {"": 88.0},
    },
    "MMMU validation": {
        "Janus-Pro-1B": {"": 36.3},
        "ULM-R1 (1B)": {"": 40.3},
        "PairUni-1B": {"": 40.4},
        "Janus-Pro-7B": {"": 41.1},
        "PairUni-7B": {"": 47.0},
    },
    "MMStar": {"PairUni-1B": {"": 46.4}, "Janus-Pro-7B": {"": 46.5}, "PairUni-7B": {"": 49.5}},
    "WISE": {
        "Janus-1B": _parts(_WISE, 0.23, 0.16, 0.26, 0.35, 0.28, 0.30, 0.14),
        "PairUni-1B": _parts(_WISE, 0.38, 0.31, 0.39, 0.56, 0.38, 0.44, 0.22),
        "Janus-Pro-7B": _parts(_WISE, 0.35, 0.30, 0.37, 0.49, 0.36, 0.42, 0.26),
        "PairUni-7B": _parts(_WISE, 0.45, 0.36, 0.46, 0.62, 0.42, 0.55, 0.29),
    },
    "GenEval": {
        "Janus-Pro-1B": _parts(_GENEVAL, 73, 99, 82, 48, 90, 62, 57),
        "ULM-R1": {"": 76},
        "Janus-Pro-R1 (1B)": _parts(_GENEVAL, 71, 98, 80, 51, 84, 59, 55),
        "PairUni-1B": _parts(_GENEVAL, 79, 98, 91, 44, 75, 95, 69),
        "Janus-Pro-7B": _parts(_GENEVAL, 79, 97, 88, 57, 90, 77, 64),
        "PairUni-7B": _parts(_GENEVAL, 85, 97, 75, 78, 97, 91, 69),
    },
}
"""Benchmark -> model -> overall score (under "") and parts; the paper does not name its protocols."""


def compare(results: Mapping[Path, Result]) -> str:
    """A Markdown table for each benchmark and unit: our results in the order given, then the paper's figures.

    Results of one benchmark with different protocols, judges, detectors or prompts share a table that names these. The
    paper's figures appear only next to a score of the complete benchmark with its official protocol (WISE: the legacy
    one).
    """
    groups: dict[tuple[str, str], dict[Path, Result]] = {}
    for path, result in results.items():
        wise = f"WISE ({result.protocol.split(',')[0]})"
        name = wise if result.benchmark == "WISE" else result.benchmark
        groups.setdefault((name, result.unit), {})[path] = result
    return "\n\n".join(_table(name, found) for (name, _), found in groups.items())


def _table(name: str, results: Mapping[Path, Result]) -> str:
    first = next(iter(results.values()))
    parts = list(first.parts) if len(first.parts) <= _MOST_PARTS else []
    complete = any(result.protocol in _OFFICIAL for result in results.values())
    published = PUBLISHED.get(first.benchmark, {}) if complete else {}
    rows = [["", "protocol", "by", "score", "95% interval", *parts], ["---"] * (5 + len(parts))]
    for path, result in results.items():
        span = "" if result.interval is None else "{:.2f} to {:.2f}".format(*result.interval)
        label = str(result.settings.get("model", path.stem))
        shown = [f"{result.score:.2f}", span]
        rows.append(
            [
                label,
                result.protocol,
                result.conditions,
                *shown,
                *(_shown(result.parts.get(part)) for part in parts),
            ]
        )
    for model, figures in published.items():
        shown = [f"{figures['']:.2f}", ""]
        rows.append([model, "the paper's figure", "", *shown, *(_shown(figures.get(part)) for part in parts)])
    lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{name}, {first.unit}\n\n{lines}"


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"

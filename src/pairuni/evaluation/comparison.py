"""Comparison of results with each other and with the paper's figures (arXiv:2510.25682)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from pairuni.evaluation.result import Result, read_result
from pairuni.io.markdown import raw_table
from pairuni.paper import Figure, published

_OFFICIAL = {"official", "official, no random guess", "official rules", "legacy"}
_MOST_PARTS = 10
"""Benchmarks with more parts than this show only the headline."""


def find_results(paths: Iterable[Path]) -> dict[Path, Result]:
    """The results of files, and of folders that contain them directly or in the folders of several benchmarks.

    Raises ValueError for a file that is not a result and for a folder without one, OSError for what does not exist.
    """
    found: dict[Path, Result] = {}
    for path in paths:
        if not path.is_dir():
            found[path] = read_result(path)
            continue
        inside = {
            file: read_result(file)
            for file in sorted([*path.glob("*.json"), *path.glob("*/*.json")])
            if _is_result(file)
        }
        if not inside:
            raise ValueError(f"{path} contains no results of pairuni eval")
        found |= inside
    return found


def _is_result(path: Path) -> bool:
    try:
        values = json.loads(path.read_bytes())
    except ValueError:
        return False
    return isinstance(values, dict) and {"benchmark", "protocol", "score"} <= values.keys()


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


def compare_with_row(results: Mapping[Path, Result], row: str) -> str:
    """A Markdown table of results beside one row of the paper, with the differences.

    row: a model or TABLE/ROW, see ``published``. A difference is given only for a complete benchmark with its official
    protocol. Figures of the row that have no result are listed at the end. Raises ValueError naming the known rows.
    """
    known = published()
    if row not in known:
        raise ValueError(f"the paper has no row {row!r}; known: {', '.join(known)}")
    figures = known[row]
    head = [
        "",
        "protocol",
        "by",
        "score",
        "95% interval",
        "paper",
        "difference",
        "paper in interval",
        "table",
    ]
    rows = [line for result in results.values() for line in _against(result, figures.get(result.benchmark))]
    text = f"Beside {row} of the paper (arXiv:2510.25682)\n\n{raw_table(head, rows)}"
    shown = {result.benchmark for result in results.values()}
    if absent := [f"{name} {figure.score:.2f}" for name, figure in figures.items() if name not in shown]:
        text += f"\n\nWithout a result: {', '.join(absent)}."
    return text


def _against(result: Result, figure: Figure | None) -> list[list[str]]:
    comparable = result.protocol in _OFFICIAL and figure is not None
    span = _span(result)
    head = [result.benchmark, result.protocol, result.conditions, f"{result.score:.2f}", span]
    if figure is None:
        return [[*head, "", "", "", ""]]
    difference = within = ""
    if comparable:
        difference = _signed(result.score - figure.score)
        if result.interval is not None:
            within = "yes" if result.interval[0] <= figure.score <= result.interval[1] else "no"
    rows = [[*head, f"{figure.score:.2f}", difference, within, figure.table]]
    for name, value in figure.parts.items():
        if name in result.parts:
            own = result.parts[name]
            apart = _signed(own - value) if comparable else ""
            rows.append(
                [f"{result.benchmark}, {name}", "", "", f"{own:.2f}", "", f"{value:.2f}", apart, "", ""]
            )
    return rows


def _table(name: str, results: Mapping[Path, Result]) -> str:
    first = next(iter(results.values()))
    parts = list(first.parts) if len(first.parts) <= _MOST_PARTS else []
    complete = any(result.protocol in _OFFICIAL for result in results.values())
    rows = []
    for path, result in results.items():
        label = str(result.settings.get("model", path.stem))
        shown = [f"{result.score:.2f}", _span(result), *(_shown(result.parts.get(part)) for part in parts)]
        rows.append([label, result.protocol, result.conditions, *shown])
    for model, figures in published().items():
        if complete and "/" not in model and (figure := figures.get(first.benchmark)) is not None:
            shown = [f"{figure.score:.2f}", "", *(_shown(figure.parts.get(part)) for part in parts)]
            rows.append([model, "the paper's figure", "", *shown])
    head = ["", "protocol", "by", "score", "95% interval", *parts]
    return f"{name}, {first.unit}\n\n{raw_table(head, rows)}"


def _span(result: Result) -> str:
    return "" if result.interval is None else "{:.2f} to {:.2f}".format(*result.interval)


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−") if round(value, 2) else "0.00"

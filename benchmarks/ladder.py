"""Results as Markdown tables, in which every row adds one thing to the row above."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.result import COLUMNS, SECONDS, facts, title
from benchmarks.suite import CPU, CUDA

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
EMPTY = "No result is committed yet."
RENAMED = {"pictures-once": "images-once"}
"""Contenders that older result files name differently."""


def read_results(folder: Path) -> dict[str, dict[str, Any]]:
    """name -> result of every file of ``folder``, in the order of the suite, then by name.

    Raises ValueError naming a file that holds no result.
    """
    order = {name: place for place, name in enumerate((*CPU, *CUDA))}
    found = {}
    for path in sorted(folder.glob("*.json"), key=lambda path: (order.get(path.stem, len(order)), path.stem)):
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            found[path.stem] = result | {
                "bench": result["bench"],
                "command": result["command"].replace("pairuni bench", "python -m benchmarks", 1),
                "contenders": {RENAMED.get(name, name): row for name, row in result["contenders"].items()},
            }
        except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} holds no result of `python -m benchmarks`; remove or repeat it"
            ) from error
    return found


def markdown(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The sections of all results, joined."""
    return "\n\n".join(_section(name, result) for name, result in results.items()) or EMPTY


def _section(name: str, result: Mapping[str, Any]) -> str:
    hardware, versions = result["hardware"], result["versions"]
    machine = hardware.get("gpu") or f"{hardware['processor']}, {hardware['cores']} cores"
    lines = [
        f"### {name}",
        "",
        f"`{result['command'].removesuffix(' --json')}`  ",
        f"{machine}; torch {versions['torch']}, transformers {versions['transformers']}; "
        f"commit {(result['commit'] or 'unknown')[:12]}.  ",
        f"{title(result['settings'])}",
        "",
        *_table(result),
    ]
    sentences = facts(result)
    return "\n".join([*lines, "", " ".join(sentences)] if sentences else lines)


def _table(result: Mapping[str, Any]) -> list[str]:
    rows: Mapping[str, Mapping[str, float]] = result["contenders"]
    adds: Mapping[str, str] = import_module(f"benchmarks.{result['bench']}").ADDS
    keys = [key for key in COLUMNS if any(key in row for row in rows.values())]
    first = next(iter(rows.values()))["seconds"]
    headings = ["", "seconds (min, max)", "times", *(COLUMNS[key][0] for key in keys), "peak MiB"]
    lines = [_row(headings), _row(["---", *["---:"] * (len(headings) - 1)])]
    for name, row in rows.items():
        lines.append(
            _row(
                [
                    f"**{name}**: {adds[name]}",
                    SECONDS.format(**row),
                    f"{first / row['seconds']:.2f}",
                    *(COLUMNS[key][1].format(row[key]) if key in row else "" for key in keys),
                    f"{row['peak_bytes'] / 2**20:,.0f}",
                ]
            )
        )
    return lines


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def with_results(page: str, content: str) -> str:
    """The page with ``content`` between its two marks. Raises ValueError when it lacks them."""
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no lines {BEGIN} and {END} to put the results between")
    return f"{head}{BEGIN}\n\n{content}\n\n{END}{tail}"

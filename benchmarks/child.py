"""Contenders in separate processes, because neither an allocator nor the system forgets a peak of memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from typing import Any

from pairuni.console.progress import Progress


def run_module(module: str, *words: str) -> dict[str, Any]:
    """Run ``python -m module words`` and return the JSON object on its last line.

    Raises RuntimeError with the last line of stderr when the process fails.
    """
    child = subprocess.run([sys.executable, "-m", module, *words], capture_output=True, text=True)
    if child.returncode:
        lines = child.stderr.strip().splitlines() or ["no message"]
        raise RuntimeError(f"{module} {words[0]} ended with code {child.returncode}: {lines[-1]}")
    found: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    return found


def alternate_modules(
    module: str,
    contenders: Iterable[str],
    settings: str,
    repeats: int,
    seconds: Callable[[dict[str, Any]], float],
) -> dict[str, list[dict[str, Any]]]:
    """The results of ``repeats`` processes for each contender, which take turns.

    settings: JSON, the second word of each process. seconds: the measured time in a result, shown as progress.
    """
    made: dict[str, list[dict[str, Any]]] = {name: [] for name in contenders}
    with Progress(module.rpartition(".")[2], total=repeats * len(made), unit="runs") as progress:
        for _ in range(repeats):
            for name, runs in made.items():
                runs.append(run_module(module, name, settings))
                progress.advance(status=f"{name} {seconds(runs[-1]):.2f} s")
    return made

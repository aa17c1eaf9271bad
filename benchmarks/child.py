"""Contenders in separate processes, because neither an allocator nor the system forgets a peak of memory."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any


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

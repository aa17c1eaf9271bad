"""Weights and facts of finished stages, so that a stopped run resumes at the next stage."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import nn


def stages_of(out: Path) -> Path:
    """The folder with the stages of the model that is written to ``out``."""
    return out.with_name(f"{out.name}-stages")


def keep(module: nn.Module, path: Path, found: dict[str, float]) -> None:
    """Write the module's weights to ``path`` and ``found`` to a JSON file next to it."""
    partial = path.with_suffix(".partial")
    save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()}, partial)
    path.with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n")
    partial.rename(path)


def run_stage(module: nn.Module, path: Path, train: Callable[[], dict[str, float] | None]) -> None:
    """Train the module and keep its weights, unless ``path`` has them; either way the module gets those weights."""
    if not path.exists():
        start, core_start = time.monotonic(), time.process_time()
        scores = train() or {}
        spent = {"seconds": time.monotonic() - start, "core_seconds": time.process_time() - core_start}
        keep(module, path, {**scores, **spent})
    module.load_state_dict(load_file(path))


def facts(folder: Path, stage: str) -> dict[str, float]:
    """What is known of a finished stage: its scores, ``seconds``, and ``core_seconds`` of processor time."""
    found: dict[str, float] = json.loads((folder / f"{stage}.json").read_text())
    return found

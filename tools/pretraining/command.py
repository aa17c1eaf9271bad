"""The command line of a recipe."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from tools.pretraining.schedule import Report


def output_folder(description: str | None) -> Path:
    """The folder for the finished model; also sets the number of threads. Both are arguments."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, required=True, help="folder for the finished model")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    out: Path = arguments.out
    return out


def progress() -> Report:
    """Print every 50th step with its metrics and the seconds since this call."""
    start = time.monotonic()

    def report(stage: str, step: int, steps: int, figures: dict[str, float]) -> None:
        if (step + 1) % 50 == 0:
            shown = "  ".join(f"{name} {value:.4f}" for name, value in figures.items())
            print(f"{time.monotonic() - start:7.0f}s  {stage:9s} {step + 1:5d}/{steps}  {shown}", flush=True)

    return report

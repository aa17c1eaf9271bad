"""python -m pairuni.digits.base --out DIR: make the shipped tiny model again, from nothing."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from pairuni.digits.base.recipe import Recipe, pretrain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the finished model")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    start = time.monotonic()

    def report(stage: str, step: int, steps: int, figures: dict[str, float]) -> None:
        if (step + 1) % 50 == 0:
            shown = "  ".join(f"{name} {value:.4f}" for name, value in figures.items())
            print(f"{time.monotonic() - start:7.0f}s  {stage:9s} {step + 1:5d}/{steps}  {shown}", flush=True)

    pretrain(arguments.out, Recipe(), report)


if __name__ == "__main__":
    main()

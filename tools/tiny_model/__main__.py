"""python -m tools.tiny_model --out DIR: pretrain the shipped tiny model from scratch."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from pairuni.digits.evaluation import evaluate
from pairuni.digits.scenes import SIZE
from pairuni.digits.world import held_out_items
from pairuni.policies import load_policy
from tools.tiny_model.card import write_card
from tools.tiny_model.recipe import Recipe, pretrain

GUIDANCE = 2.0


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

    recipe = Recipe()
    pretrain(arguments.out, recipe, report)
    policy = load_policy(arguments.out, dtype="float32")
    evaluation = evaluate(policy, held_out_items(recipe.seed, 510), guidance=GUIDANCE, seed=recipe.seed)
    write_card(
        arguments.out,
        arguments.out.with_name(f"{arguments.out.name}-stages"),
        recipe,
        evaluation,
        parameters=sum(parameter.numel() for parameter in policy.module.parameters()),
        size=SIZE,
        guidance=GUIDANCE,
    )
    print(evaluation.scores())


if __name__ == "__main__":
    main()

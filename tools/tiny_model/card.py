"""The model card of the tiny model, written from the records of pretraining."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pairuni.digits.evaluation import Evaluation
from pairuni.intervals import wilson_interval
from tools.tiny_model.recipe import Recipe

_CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: any-to-any
---

# tiny-janus

A unified vision-language model of {parameters:,} parameters: it answers questions about images of coloured
handwritten digits and generates such images from prompts. It is a plain `JanusForConditionalGeneration` (Llama
decoder, SigLIP-style vision tower, VQ image tokenizer), made for post-training experiments on two CPU cores. Its
pretraining stops early, so that both tasks can improve. It is trained only on the digits world.

    from transformers import AutoProcessor, JanusForConditionalGeneration

    model = JanusForConditionalGeneration.from_pretrained(".")
    processor = AutoProcessor.from_pretrained(".")

## Data

Images of {size}x{size} pixels composed of the 1,797 handwritten digits of scikit-learn (from the UCI "Optical
Recognition of Handwritten Digits" set, CC BY 4.0): 1,400 scans for training, 397 held out. Scenes and prompts
are split by a hash of their text, 80% for training. No stage uses held-out data.

## Reproducing it

    python -m tools.tiny_model --out DIR

| stage | steps | batch | seed | seconds |
|---|---|---|---|---|
{stages}

Seeds fix data and initialisation; weights differ in their last bits between processors and numbers of
threads. Weights are stored in bfloat16.

## Scores

{count} held-out items per task; greedy answers, images sampled at temperature 1 with guidance {guidance:g} and
judged entirely correct or not by the evaluation detector. 95% Wilson intervals.

    pairuni eval digits --model tiny --items {count} --guidance {guidance:g}

| task | score | interval |
|---|---|---|
{scores}
"""


def write_card(
    folder: Path,
    stages: Path,
    recipe: Recipe,
    evaluation: Evaluation,
    *,
    parameters: int,
    size: int,
    guidance: float,
) -> None:
    """Write ``folder/README.md``; ``stages`` is the folder with the seconds of each stage."""
    rows = [
        ("vision tower", recipe.tower_steps, recipe.tower_batch, recipe.seed, "tower"),
        ("image tokenizer", recipe.vq_steps, recipe.vq_batch, recipe.seed, "vq"),
        *(
            (
                f"language model: {stage.name}",
                stage.steps,
                f"{recipe.batch} + {recipe.batch}",
                recipe.seed + 2,
                "",
            )
            for stage in recipe.stages
        ),
        ("language model, all", sum(s.steps for s in recipe.stages), "", recipe.seed + 2, "model"),
    ]
    table = "\n".join(
        f"| {name} | {steps} | {batch} | {seed} | {_seconds(stages, kept)} |"
        for name, steps, batch, seed, kept in rows
    )
    scores = "\n".join(_score_row(task, evaluation) for task in ("understanding", "generation"))
    card = _CARD.format(
        parameters=parameters,
        size=size,
        stages=table,
        count=len(evaluation.understanding),
        guidance=guidance,
        scores=scores,
    )
    (folder / "README.md").write_text(card, encoding="utf-8")


def _seconds(stages: Path, kept: str) -> str:
    facts: dict[str, Any] = json.loads((stages / f"{kept}.json").read_text()) if kept else {}
    return f"{facts['seconds']:.0f}" if facts else ""


def _score_row(task: str, evaluation: Evaluation) -> str:
    items = getattr(evaluation, task)
    right = sum(item.correct for item in items)
    low, high = wilson_interval(right / len(items), len(items))
    return f"| {task} | {100 * right / len(items):.1f}% | {100 * low:.1f} to {100 * high:.1f}% |"

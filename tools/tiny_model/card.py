"""The model card of the tiny model, written from the records of pretraining."""

from __future__ import annotations

from pathlib import Path

from pairuni.digits.evaluation import Evaluation
from pairuni.digits.scenes import SIZE
from tools.pretraining.card import DATA, StageRow, language_rows, score_table, stage_table
from tools.pretraining.stages import facts, stages_of
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

{data}

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
    folder: Path, recipe: Recipe, evaluation: Evaluation, *, parameters: int, guidance: float
) -> None:
    """Write ``folder/README.md``; the seconds are those of the stored stages."""
    kept, seed = stages_of(folder), recipe.seed
    rows: list[StageRow] = [
        ("vision tower", recipe.tower_steps, recipe.tower_batch, seed, facts(kept, "tower")["seconds"]),
        ("image tokenizer", recipe.vq_steps, recipe.vq_batch, seed, facts(kept, "vq")["seconds"]),
        *language_rows(recipe.stages, recipe.batch, seed + 2, facts(kept, "model")["seconds"]),
    ]
    count = len(evaluation.understanding)
    card = _CARD.format(
        parameters=parameters,
        data=DATA.format(size=SIZE),
        stages=stage_table(rows),
        count=count,
        guidance=guidance,
        scores=score_table({task: (score, count) for task, score in evaluation.scores().items()}),
    )
    (folder / "README.md").write_text(card, encoding="utf-8")

"""The model card of the tiny Lumina-DiMOO, written from the records of pretraining."""

from __future__ import annotations

from pathlib import Path

from pairuni.digits.edit_evaluation import EditEvaluation, score_of
from pairuni.digits.evaluation import MAX_NEW_TOKENS, Evaluation
from pairuni.digits.scenes import SIZE
from pairuni.policies.lumina_dimoo.policy import LuminaDimooPolicy
from tools.pretraining.card import DATA, StageRow, language_rows, score_table, stage_table
from tools.pretraining.stages import facts, stages_of
from tools.tiny_lumina.recipe import Recipe

_CARD = """---
license: apache-2.0
pipeline_tag: any-to-any
---

# tiny-lumina

A masked discrete diffusion model of {parameters:,} parameters: it answers questions about images of coloured
handwritten digits, generates such images from prompts, and edits them by instructions. It is a small Lumina-DiMOO in
the original layout: a bidirectional Llama over text tokens and picture codes, and the `VQModel` of diffusers
({vq_parameters:,} parameters), which encodes an image as {side} x {side} of {codes} codes. It is made for
post-training experiments on two CPU cores. Its pretraining stops early, so that all tasks can improve. It is trained
only on the digits world.

Its special ids are its own, under `token_ids` of `config.json`. The fixed sentences of the prompts are one token each.

## Data

{data}

## Reproducing it

    python -m tools.tiny_lumina --out DIR

| stage | steps | batch | seed | core seconds |
|---|---|---|---|---|
{stages}

Seeds fix data and initialisation; weights differ in their last bits between processors and numbers of
threads. Weights are stored in bfloat16.

## Scores

{count} held-out items per task; greedy answers of {length} tokens in {text_steps} steps; images sampled in
{picture_steps} steps at temperature 1 with guidance {guidance:g} and judged entirely correct or not by the evaluation
detector. 95% Wilson intervals.

    pairuni eval digits --model DIR --items {count} --guidance {guidance:g}
    pairuni eval digits-edits --model DIR --items {count}

| task | score | interval |
|---|---|---|
{scores}

The detector reads {restored:.1%} of held-out images entirely right after the image tokenizer has encoded and decoded
them, and {original:.1%} of the images themselves.
"""


def write_card(
    folder: Path,
    policy: LuminaDimooPolicy,
    recipe: Recipe,
    evaluation: Evaluation,
    edits: EditEvaluation,
) -> None:
    """Write ``folder/README.md``; the seconds are those of the stored stages."""
    checkpoint, sampling = policy.checkpoint, policy.config
    kept, seed = stages_of(folder), recipe.seed
    tokenizer = facts(kept, "vq")
    rows: list[StageRow] = [
        ("image tokenizer", recipe.vq_steps, recipe.vq_batch, seed, tokenizer["core_seconds"]),
        *language_rows(recipe.stages, recipe.batch, seed + 2, facts(kept, "model")["core_seconds"]),
    ]
    scores = {
        **{task: (score, len(evaluation.generation)) for task, score in evaluation.scores().items()},
        "editing": (score_of(edits.edits), len(edits.edits)),
    }
    card = _CARD.format(
        parameters=sum(parameter.numel() for parameter in checkpoint.model.parameters()),
        vq_parameters=sum(parameter.numel() for parameter in checkpoint.vq.model.parameters()),
        side=SIZE // checkpoint.vq.scale,
        codes=checkpoint.ids.codebook,
        data=DATA.format(size=SIZE),
        stages=stage_table(rows),
        count=len(evaluation.understanding),
        length=MAX_NEW_TOKENS,
        text_steps=sampling.text_steps,
        picture_steps=sampling.image_steps,
        guidance=sampling.guidance,
        scores=score_table(scores),
        restored=tokenizer["restored"],
        original=tokenizer["original"],
    )
    (folder / "README.md").write_text(card, encoding="utf-8")

"""The pretraining recipe. The weights of each stage are saved, so that a stopped run resumes at the next stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import JanusForConditionalGeneration, JanusProcessor

from tools.pretraining.lessons import Stage, corpus
from tools.pretraining.schedule import Report
from tools.pretraining.stages import keep, run_stage, stages_of
from tools.tiny_model.bank import fill_bank
from tools.tiny_model.model import make_model, make_processor, train_tokenizer
from tools.tiny_model.supervised import train_language_model
from tools.tiny_model.tower import train_tower
from tools.tiny_model.vq import train_vq


@dataclass(frozen=True)
class Recipe:
    """All settings that determine the weights, seeds included."""

    seed: int = 0
    tower_steps: int = 1500
    tower_batch: int = 128
    vq_steps: int = 1600
    vq_batch: int = 48
    bank: int = 30_000
    batch: int = 64
    learning_rate: float = 1.5e-3
    stages: tuple[Stage, ...] = field(
        default=(
            Stage("words", steps=600, things=2, describe=0.7, choose=0.0, letter=1.0),
            Stage("questions", steps=1200, things=4, describe=0.35, choose=0.0, letter=1.0),
            Stage("letters", steps=200, things=4, describe=0.15, choose=0.6, letter=1.0),
            Stage("options", steps=300, things=4, describe=0.15, choose=0.6, letter=0.7),
        )
    )


_FORMATS = {"answer": " {}", "question": "\n{}\n\n", "prompt": "<|User|>: {}\n\n<|Assistant|>:"}
"""How the conversation format surrounds a text of each role."""


def pretrain(
    out: Path, recipe: Recipe, report: Report
) -> tuple[JanusForConditionalGeneration, JanusProcessor]:
    """Run the recipe and write ``out``, a folder that plain ``transformers`` loads.

    The weights of each stage are in ``<out>-stages``; a stage found there is not run again.
    """
    kept = stages_of(out)
    kept.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    if not (kept / "processor").exists():
        texts = (_FORMATS[role].format(text) for role, text in corpus(recipe.seed))
        make_processor(train_tokenizer(texts)).save_pretrained(kept / "processor")
    processor = JanusProcessor.from_pretrained(kept / "processor", backend="pil")
    model = make_model(processor.tokenizer)

    tower, vqmodel = model.model.vision_model, model.model.vqmodel
    run_stage(
        tower,
        kept / "tower.safetensors",
        lambda: train_tower(
            tower,
            model.config.vision_config.hidden_size,
            steps=recipe.tower_steps,
            batch=recipe.tower_batch,
            seed=recipe.seed,
            report=report,
        ),
    )
    run_stage(
        vqmodel,
        kept / "vq.safetensors",
        lambda: train_vq(
            vqmodel, steps=recipe.vq_steps, batch=recipe.vq_batch, seed=recipe.seed, report=report
        ),
    )
    with torch.no_grad():
        model.model.generation_embeddings.weight.copy_(vqmodel.quantize.embedding.weight)
    run_stage(
        model,
        kept / "model.safetensors",
        lambda: _train_language_model(model, processor, recipe, kept, report),
    )
    # bfloat16 halves the size in the package; training converts to float32.
    model.requires_grad_(False).eval().to(torch.bfloat16)
    model.save_pretrained(out)
    processor.save_pretrained(out)
    return model, processor


def _train_language_model(
    model: JanusForConditionalGeneration,
    processor: JanusProcessor,
    recipe: Recipe,
    kept: Path,
    report: Report,
) -> None:
    """Train the language model, starting after the last stage of the curriculum whose weights are in ``kept``."""
    files = [kept / f"model-{stage.name}.safetensors" for stage in recipe.stages]
    finished = sum(file.exists() for file in files)
    if finished:
        model.load_state_dict(load_file(files[finished - 1]))
    bank = fill_bank(model, size=recipe.bank, seed=recipe.seed + 1, report=report)
    train_language_model(
        model,
        processor,
        bank,
        recipe.stages,
        batch=recipe.batch,
        learning_rate=recipe.learning_rate,
        seed=recipe.seed + 2,
        report=report,
        finished=finished,
        at_stage_end=lambda stage: keep(model, kept / f"model-{stage.name}.safetensors", {}),
    )

"""The pretraining recipe. The weights of each stage are saved, so that a stopped run resumes at the next stage."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import JanusForConditionalGeneration, JanusProcessor

from pairuni.digits.language import caption, sentence
from pairuni.digits.prompts import PROMPT_KINDS, random_request
from pairuni.digits.questions import QUESTION_KINDS, random_question
from pairuni.digits.scenes import random_scene
from tools.tiny_model.bank import fill_bank
from tools.tiny_model.model import make_model, make_processor, train_tokenizer
from tools.tiny_model.schedule import Report
from tools.tiny_model.supervised import DESCRIBE, Stage, train_language_model
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


def corpus(seed: int, size: int = 4000) -> Iterator[str]:
    """Texts of all kinds in the digits world, to train the tokenizer on."""
    rng = np.random.default_rng(seed)
    for row in range(size):
        scene = random_scene(rng, "train")
        yield f" {caption(scene)}"
        yield f"\n{DESCRIBE}\n\n"
        request = random_request(rng, PROMPT_KINDS[row % len(PROMPT_KINDS)], "train")
        yield f"<|User|>: {sentence(request)}\n\n<|Assistant|>:"
        kind = QUESTION_KINDS[row % len(QUESTION_KINDS)]
        if question := random_question(rng, scene, kind, multiple_choice=row % 2 == 0):
            yield f"\n{question.text}\n\n"
            yield f" {question.answer}"


def pretrain(
    out: Path, recipe: Recipe, report: Report
) -> tuple[JanusForConditionalGeneration, JanusProcessor]:
    """Run the recipe and write ``out``, a folder that plain ``transformers`` loads.

    The weights of each stage are in ``<out>-stages``; a stage found there is not run again.
    """
    kept = out.with_name(f"{out.name}-stages")
    kept.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    if not (kept / "processor").exists():
        make_processor(train_tokenizer(corpus(recipe.seed))).save_pretrained(kept / "processor")
    processor = JanusProcessor.from_pretrained(kept / "processor", backend="pil")
    model = make_model(processor.tokenizer)

    tower, vqmodel = model.model.vision_model, model.model.vqmodel
    tower_file, vq_file, language_file = (kept / f"{part}.safetensors" for part in ("tower", "vq", "model"))
    if not tower_file.exists():
        start = time.monotonic()
        scores = train_tower(
            tower,
            model.config.vision_config.hidden_size,
            steps=recipe.tower_steps,
            batch=recipe.tower_batch,
            seed=recipe.seed,
            report=report,
        )
        _keep(tower, tower_file, {**scores, "seconds": time.monotonic() - start})
    tower.load_state_dict(load_file(tower_file))
    if not vq_file.exists():
        start = time.monotonic()
        train_vq(vqmodel, steps=recipe.vq_steps, batch=recipe.vq_batch, seed=recipe.seed, report=report)
        _keep(vqmodel, vq_file, {"seconds": time.monotonic() - start})
    vqmodel.load_state_dict(load_file(vq_file))
    with torch.no_grad():
        model.model.generation_embeddings.weight.copy_(vqmodel.quantize.embedding.weight)
    if not language_file.exists():
        start = time.monotonic()
        stage_files = [kept / f"model-{stage.name}.safetensors" for stage in recipe.stages]
        finished = sum(file.exists() for file in stage_files)
        if finished:
            model.load_state_dict(load_file(stage_files[finished - 1]))
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
            at_stage_end=lambda stage: _keep(model, kept / f"model-{stage.name}.safetensors", {}),
        )
        _keep(model, language_file, {"seconds": time.monotonic() - start})
    model.load_state_dict(load_file(language_file))
    # bfloat16 halves the size in the package; training converts to float32.
    model.requires_grad_(False).eval().to(torch.bfloat16)
    model.save_pretrained(out)
    processor.save_pretrained(out)
    return model, processor


def _keep(module: torch.nn.Module, path: Path, facts: dict[str, float]) -> None:
    partial = path.with_suffix(".partial")
    save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()}, partial)
    partial.rename(path)
    path.with_suffix(".json").write_text(json.dumps(facts, indent=2) + "\n")

"""The pretraining recipe. The weights of each stage are saved, so that a stopped run resumes at the next stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from pairuni.policies.lumina_dimoo.ids import TokenIds
from pairuni.policies.lumina_dimoo.loading import LuminaCheckpoint
from pairuni.policies.lumina_dimoo.model_config import config_to_original
from pairuni.policies.lumina_dimoo.sampling_config import SECTION
from pairuni.policies.lumina_dimoo.vq import LuminaVQ
from tools.pretraining.lessons import Stage
from tools.pretraining.schedule import Report
from tools.pretraining.stages import keep, run_stage, stages_of
from tools.tiny_lumina.bank import fill_bank, fill_edit_bank
from tools.tiny_lumina.model import SAMPLING, embed_codes, ids_of, make_model, make_vq, texts, train_tokenizer
from tools.tiny_lumina.supervised import train_language_model
from tools.tiny_lumina.vq import train_vq


@dataclass(frozen=True)
class Recipe:
    """All settings that determine the weights, seeds included."""

    seed: int = 0
    vq_steps: int = 1500
    vq_batch: int = 48
    vq_learning_rate: float = 2e-3
    reading: float = 0.2
    bank: int = 16_000
    edit_bank: int = 4_000
    batch: int = 32
    edits: int = 8
    learning_rate: float = 1.2e-3
    stages: tuple[Stage, ...] = field(
        default=(
            Stage("words", steps=400, things=2, describe=0.7, choose=0.0, letter=1.0),
            Stage("questions", steps=700, things=4, describe=0.4, choose=0.0, letter=1.0),
            Stage("options", steps=500, things=4, describe=0.15, choose=0.6, letter=0.7),
        )
    )


def pretrain(out: Path, recipe: Recipe, report: Report) -> None:
    """Run the recipe and write ``out``, a checkpoint in the original layout.

    The weights of each stage are in ``<out>-stages``; a stage found there is not run again.
    """
    kept = stages_of(out)
    kept.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    if not (kept / "tokenizer").exists():
        train_tokenizer(texts(recipe.seed)).save_pretrained(kept / "tokenizer")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(kept / "tokenizer")
    ids = ids_of(tokenizer)
    vq: Any = make_vq()
    model = make_model(ids)
    run_stage(
        vq,
        kept / "vq.safetensors",
        lambda: train_vq(
            vq,
            steps=recipe.vq_steps,
            batch=recipe.vq_batch,
            learning_rate=recipe.vq_learning_rate,
            reading=recipe.reading,
            seed=recipe.seed,
            report=report,
        ),
    )
    # bfloat16 halves the size in the package. The language model trains on the codes that the stored weights give.
    _round(vq.eval())
    embed_codes(model, ids, vq)
    run_stage(
        model,
        kept / "model.safetensors",
        lambda: _train_language_model(model, vq, tokenizer, ids, recipe, kept, report),
    )
    checkpoint = LuminaCheckpoint(
        model=model.requires_grad_(False).eval().to(torch.bfloat16),
        ids=ids,
        tokenizer=tokenizer,
        vq=LuminaVQ(vq.to(torch.bfloat16), ids),
        config={**config_to_original(model.config, ids), SECTION: SAMPLING.declared()},
        files={file.name: file.read_bytes() for file in (kept / "tokenizer").iterdir()},
    )
    out.mkdir(parents=True, exist_ok=True)
    checkpoint.save(out)


@torch.no_grad()
def _round(module: nn.Module) -> None:
    for parameter in module.parameters():
        parameter.copy_(parameter.to(torch.bfloat16))


def _train_language_model(
    model: LlamaForCausalLM,
    vq: Any,
    tokenizer: PreTrainedTokenizerFast,
    ids: TokenIds,
    recipe: Recipe,
    kept: Path,
    report: Report,
) -> None:
    """Train the language model, starting after the last stage of the curriculum whose weights are in ``kept``."""
    files = [kept / f"model-{stage.name}.safetensors" for stage in recipe.stages]
    finished = sum(file.exists() for file in files)
    if finished:
        model.load_state_dict(load_file(files[finished - 1]))
    bank = fill_bank(vq, size=recipe.bank, seed=recipe.seed + 1, report=report)
    edit_bank = fill_edit_bank(vq, size=recipe.edit_bank, seed=recipe.seed + 3, report=report)
    train_language_model(
        model,
        tokenizer,
        ids,
        bank,
        edit_bank,
        recipe.stages,
        batch=recipe.batch,
        edits=recipe.edits,
        learning_rate=recipe.learning_rate,
        seed=recipe.seed + 2,
        report=report,
        finished=finished,
        at_stage_end=lambda stage: keep(model, kept / f"model-{stage.name}.safetensors", {}),
    )

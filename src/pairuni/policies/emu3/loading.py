"""Loading an Emu3 checkpoint of ``transformers``. Checkpoints are untrusted: no code in the folder runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import Emu3Config, Emu3ForConditionalGeneration, Emu3Processor, GenerationConfig

from pairuni.policies.emu3.grid import SECTION
from pairuni.policies.files import check_numbers, described_by, read_json, without_loader_keys
from pairuni.policies.tensors import few, no_progress_bar, read_tensors

_GENERATION = "generation_config.json"


def load_model(
    folder: Path, *, dtype: torch.dtype, weights: bool = True
) -> tuple[Emu3ForConditionalGeneration, Emu3Processor]:
    """Model in eval mode on the CPU and its processor.

    weights: without them the model has shapes only, on the device "meta". Raises ValueError when a file is missing or
    damaged, and when the weights do not fit config.json.
    """
    config = _config(folder / "config.json")
    with described_by(folder):
        processor = Emu3Processor.from_pretrained(folder, local_files_only=True)
    if weights:
        model = _with_weights(folder, config, dtype)
    else:
        with described_by(folder / "config.json"), torch.device("meta"):
            model = Emu3ForConditionalGeneration(config).to(dtype)
    if (folder / _GENERATION).is_file():
        with described_by(folder / _GENERATION):
            model.generation_config = GenerationConfig.from_pretrained(folder)
    return model.eval(), processor


def _config(path: Path) -> Emu3Config:
    raw = read_json(path)
    vocabulary = raw.pop("vocabulary_map", None)  # its keys are tokens, not settings
    if not isinstance(vocabulary, dict):
        raise ValueError(f"{path} has no vocabulary_map; restore the file.")
    if raw.get("quantization_config") is not None:
        raise ValueError(
            f"{path} describes quantised weights, which cannot be trained; use the released ones."
        )
    with described_by(path):
        check_numbers(raw)
        _check_grid(raw.get(SECTION))
        return Emu3Config.from_dict({**without_loader_keys(raw), "vocabulary_map": vocabulary})


def _check_grid(declared: Any) -> None:
    sizes = list(declared.values()) if isinstance(declared, dict) else []
    named = isinstance(declared, dict) and set(declared) == {"height", "width"}
    if declared is not None and not (named and all(type(one) is int and one >= 1 for one in sizes)):
        raise ValueError(f"{SECTION} is {str(declared)[:40]}, but must be a height and a width in tokens")


def _with_weights(folder: Path, config: Emu3Config, dtype: torch.dtype) -> Emu3ForConditionalGeneration:
    tensors = read_tensors(folder)
    with described_by(folder), no_progress_bar():
        model, loaded = Emu3ForConditionalGeneration.from_pretrained(
            None, config=config, state_dict=tensors, dtype=dtype, output_loading_info=True
        )
    for kind in ("missing", "unexpected"):
        if names := sorted(loaded[f"{kind}_keys"]):
            raise ValueError(
                f"The weights in {folder} do not fit their config.json: {len(names)} tensors are {kind} ({few(names)})."
            )
    return model

"""The generation config of a Janus checkpoint: end-of-sequence ids and guidance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import GenerationConfig, JanusProcessor, LlamaConfig

from pairuni.policies.files import described_by, optional_json
from pairuni.policies.janus.prompts import JanusPrompts

GENERATION_FILE = "generation_config.json"


def load_generation_config(
    folder: Path, config: Mapping[str, Any], processor: JanusProcessor
) -> GenerationConfig:
    """generation_config.json, completed with the special tokens that plain ``generate`` needs.

    End-of-sequence ids, one or a list, come from generation_config.json, else from config.json, else from the
    tokenizer. Raises ValueError naming the file with an impossible value.
    """
    path = folder / GENERATION_FILE
    said = optional_json(path)
    guidance, eos = said.get("guidance_scale"), said.get("eos_token_id")
    if guidance is not None and not _is_guidance(guidance):
        raise ValueError(f"{path} gives guidance_scale as {guidance!r}; give a number, 0 or larger.")
    with described_by(path):
        generation = _parsed(said) if said else GenerationConfig(guidance_scale=5.0)
    if not said or said.get("_from_model_config"):
        path, eos = folder / "config.json", _eos_of_config(config)
    prompts = JanusPrompts(processor)
    if eos is not None:
        _check_ids(eos, max(processor.tokenizer.get_vocab().values()), path)
    generation.bos_token_id, generation.pad_token_id = prompts.bos, prompts.pad
    generation.eos_token_id = prompts.eos if eos is None else eos
    generation.generation_kwargs = {"boi_token_id": prompts.begin_image}
    return generation


def stop_ids(generation: GenerationConfig, processor: JanusProcessor) -> tuple[int, ...]:
    """Every id that ends an answer: those that the checkpoint declares, and the tokenizer's own."""
    declared = generation.eos_token_id
    ids = declared if isinstance(declared, list) else [] if declared is None else [declared]
    return tuple(dict.fromkeys([*ids, processor.tokenizer.eos_token_id]))


def _parsed(said: dict[str, Any]) -> GenerationConfig:
    generation = GenerationConfig.from_dict(dict(said))
    try:
        generation.validate(strict=True)
    except ValueError:
        # contradicting sampling flags can be read, with a warning, but not saved again
        return GenerationConfig(guidance_scale=said.get("guidance_scale"))
    return generation


def _eos_of_config(config: Mapping[str, Any]) -> Any:
    text = config.get("text_config")
    eos = config.get("eos_token_id")
    if eos is None and isinstance(text, Mapping):
        eos = text.get("eos_token_id")
    # every saved LlamaConfig has this value, declared or not
    return None if eos == LlamaConfig().eos_token_id else eos


def _is_guidance(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _check_ids(ids: Any, largest: int, path: Path) -> None:
    listed = ids if isinstance(ids, list) and ids else [ids]
    if any(not isinstance(one, int) or isinstance(one, bool) or not 0 <= one <= largest for one in listed):
        raise ValueError(
            f"{path} gives eos_token_id as {str(ids)[:80]}; give ids of the tokenizer, 0 to {largest}."
        )

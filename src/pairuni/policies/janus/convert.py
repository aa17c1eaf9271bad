"""Conversion between the transformers layout and the original layout, in both directions and bit for bit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import save_torch_state_dict
from safetensors.torch import save_file
from torch import Tensor
from transformers import GenerationConfig, JanusConfig, JanusProcessor

from pairuni.io.files import atomic_folder
from pairuni.policies.conversion import ConversionReport, Layout, check_conversion
from pairuni.policies.janus.conversation import ConversationFormat
from pairuni.policies.janus.generation import GENERATION_FILE, load_generation_config
from pairuni.policies.janus.loading import check_model_tensors, parse_config, read_config, untie_stored_head
from pairuni.policies.janus.original_config import config_to_original
from pairuni.policies.janus.processor import (
    IMAGE_TAGS,
    IMAGES_FILE,
    PROCESSOR_FILE,
    TEMPLATE_FILE,
    load_processor,
)
from pairuni.policies.janus.prompts import IMAGE_TOKENS, JanusPrompts
from pairuni.policies.janus.tensor_names import to_original, to_transformers
from pairuni.policies.janus.tokenizer import TOKENIZER_FILE, read_tokenizer, special_tokens, write_processor
from pairuni.policies.tensors import read_file, read_tensors

UNUSED_FILE = "original_unused.safetensors"
"""In the transformers layout: original tensors that no forward pass reads, for the conversion back."""


def convert_checkpoint(source: Path, target: Path, layout: Layout) -> ConversionReport:
    """Write the checkpoint in ``source`` to the new folder ``target`` in the other layout, dtypes unchanged.

    Raises ValueError when the source is not a complete Janus checkpoint or already has the layout, and when the
    target folder is not empty.
    """
    raw, found = read_config(source)
    check_conversion(source, found, target, layout)
    processor = load_processor(source, found)
    config = parse_config(raw, found, processor, source)
    checkpoint = _Checkpoint(
        config=config,
        processor=processor,
        generation=load_generation_config(source, raw, processor),
        tokenizer=read_tokenizer(source),
    )
    if layout == "original":
        _conversation(processor)
    tensors = read_tensors(source)
    unused: dict[str, Tensor] = {}
    if found == "original":
        tensors, unused = to_transformers(tensors)
    elif (source / UNUSED_FILE).is_file():
        unused = read_file(source / UNUSED_FILE)
    untie_stored_head(config, tensors)
    check_model_tensors(tensors, config, source)
    with atomic_folder(target) as folder:
        if layout == "transformers":
            _write_transformers(folder, checkpoint, tensors, unused)
        else:
            _write_original(folder, checkpoint, {**to_original(tensors), **unused})
    return ConversionReport(
        source_layout=found,
        target_layout=layout,
        tensors=len(tensors),
        parameters=sum(tensor.numel() for tensor in tensors.values()),
        unused=tuple(sorted(unused)),
        absent=layout == "original" and not unused,
    )


@dataclass(frozen=True, kw_only=True)
class _Checkpoint:
    """A checkpoint without its weights. tokenizer: the content of tokenizer.json, which stays unchanged."""

    config: JanusConfig
    processor: JanusProcessor
    generation: GenerationConfig
    tokenizer: bytes


def _conversation(processor: JanusProcessor) -> ConversationFormat:
    """The format of the chat template. Raises ValueError for a template that the original layout cannot store."""
    conversation = JanusPrompts(processor).format
    if conversation is None:
        raise ValueError(
            "The chat template of the checkpoint is in none of the original's conversation formats, so the "
            "original layout cannot store it."
        )
    return conversation


def _write_transformers(
    folder: Path, checkpoint: _Checkpoint, tensors: dict[str, Tensor], unused: dict[str, Tensor]
) -> None:
    checkpoint.config.save_pretrained(folder)
    checkpoint.generation.save_pretrained(folder)
    write_processor(checkpoint.processor, folder, checkpoint.tokenizer)
    _save(tensors, folder)
    if unused:
        save_file({name: tensor.contiguous() for name, tensor in unused.items()}, folder / UNUSED_FILE)


def _write_original(folder: Path, checkpoint: _Checkpoint, tensors: dict[str, Tensor]) -> None:
    config, processor = checkpoint.config, checkpoint.processor
    images, tokenizer = processor.image_processor, processor.tokenizer
    _write_json(folder / "config.json", config_to_original(config))
    special = special_tokens(tokenizer)
    (folder / TOKENIZER_FILE).write_bytes(checkpoint.tokenizer)
    _write_json(folder / "special_tokens_map.json", special)
    _write_json(
        folder / "tokenizer_config.json",
        {
            **special,
            "add_bos_token": True,
            "add_eos_token": False,
            "clean_up_tokenization_spaces": False,
            "legacy": True,
            "model_max_length": min(tokenizer.model_max_length, config.text_config.max_position_embeddings),
            "tokenizer_class": "LlamaTokenizerFast",
            # otherwise the tokenizer class of the original would add another token
            "unk_token": tokenizer.unk_token,
        },
    )
    _write_json(
        folder / IMAGES_FILE,
        {
            "image_processor_type": "VLMImageProcessor",
            "processor_class": "VLChatProcessor",
            "background_color": list(images.background_color),
            "do_normalize": images.do_normalize,
            "image_mean": list(images.image_mean),
            "image_size": images.size["height"],
            "image_std": list(images.image_std),
            "min_size": images.min_size,
            "rescale_factor": images.rescale_factor,
        },
    )
    conversation = _conversation(processor)
    _write_json(folder / PROCESSOR_FILE, _processor_settings(processor, conversation))
    _write_generation(folder, checkpoint)
    if processor.chat_template != conversation.template(processor.image_token):
        (folder / TEMPLATE_FILE).write_text(processor.chat_template, encoding="utf-8")
    _save(tensors, folder)


def _processor_settings(processor: JanusProcessor, conversation: ConversationFormat) -> dict[str, Any]:
    named = {IMAGE_TAGS[role]: getattr(processor.tokenizer, role) for role in IMAGE_TAGS}
    usual = {IMAGE_TAGS[role]: token for role, token in IMAGE_TOKENS.items()}
    settings: dict[str, Any] = {
        "processor_class": "VLChatProcessor",
        "add_special_token": False,
        "ignore_id": -100,
        "image_tag": processor.image_token,
        "mask_prompt": True,
        "num_image_tokens": processor.num_image_tokens,
        "sft_format": conversation.name,
        **{key: token for key, token in named.items() if token != usual[key]},
    }
    if not processor.use_default_system_prompt:
        settings["use_default_system_prompt"] = False
    return settings


def _write_generation(folder: Path, checkpoint: _Checkpoint) -> None:
    """generation_config.json, where it differs from the defaults of the original code."""
    generation, prompts = checkpoint.generation, JanusPrompts(checkpoint.processor)
    if generation.eos_token_id != prompts.eos or generation.guidance_scale not in (None, 5.0):
        generation.save_pretrained(folder)
        assert (folder / GENERATION_FILE).is_file()


def _save(tensors: Mapping[str, Tensor], folder: Path) -> None:
    save_torch_state_dict({name: tensor.contiguous() for name, tensor in tensors.items()}, folder)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

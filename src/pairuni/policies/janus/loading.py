"""Loading a Janus checkpoint of either layout into ``transformers.JanusForConditionalGeneration``.

Checkpoints are untrusted: no code in the folder runs, and what its files say is checked before it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import JanusConfig, JanusForConditionalGeneration, JanusProcessor

from pairuni.policies.conversion import Layout
from pairuni.policies.files import check_numbers, described_by, read_json, without_loader_keys
from pairuni.policies.janus.generation import load_generation_config
from pairuni.policies.janus.original_config import config_to_transformers
from pairuni.policies.janus.processor import IMAGES_FILE, PROCESSOR_FILE, load_processor
from pairuni.policies.janus.prompts import JanusPrompts
from pairuni.policies.janus.tensor_names import to_transformers
from pairuni.policies.tensors import check_tensors, few, is_finite, no_progress_bar, read_tensors
from pairuni.policies.unsupported import refusal, unsupported_by_config

LAYOUTS: dict[str, Layout] = {"janus": "transformers", "multi_modality": "original"}
"""model_type in config.json -> layout."""


def load_model(
    folder: Path, *, dtype: torch.dtype | None = None, weights: bool = True
) -> tuple[JanusForConditionalGeneration, JanusProcessor]:
    """Model in eval mode on the CPU and its processor. dtype None keeps the checkpoint's own.

    weights: without them the model has shapes only, on the device "meta". Raises ValueError when the folder lacks its
    tokenizer or weights, or when these do not fit config.json.
    """
    raw, layout = read_config(folder)
    processor = load_processor(folder, layout)
    config = parse_config(raw, layout, processor, folder)
    generation = load_generation_config(folder, raw, processor)
    if weights:
        model = _with_weights(folder, config, layout, dtype)
    else:
        with described_by(folder / "config.json"), torch.device("meta"):
            model = JanusForConditionalGeneration(config).to(dtype or torch.float32)
    model.generation_config = generation
    return model.eval(), processor


def read_config(folder: Path) -> tuple[dict[str, Any], Layout]:
    """config.json of a Janus checkpoint and the layout it announces.

    Raises ValueError for another model, for impossible numbers and for quantised weights.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder} has no config.json; give the folder of a Janus checkpoint.")
    config = read_json(path)
    if unsupported := unsupported_by_config(config):
        raise ValueError(refusal(path, unsupported))
    layout = LAYOUTS.get(str(config.get("model_type")))
    if layout is None:
        raise ValueError(
            f"{path} has the model_type {config.get('model_type')!r}; supported: {', '.join(LAYOUTS)}."
        )
    if config.get("quantization_config") is not None:
        raise ValueError(
            f"{path} describes quantised weights, which cannot be trained; use the released ones."
        )
    with described_by(path):
        check_numbers(config)
        return without_loader_keys(config), layout


def parse_config(
    config: dict[str, Any], layout: Layout, processor: JanusProcessor, folder: Path
) -> JanusConfig:
    """The ``JanusConfig`` of either layout's config.json, checked against tokenizer and processor.

    Raises ValueError where these belong to different models, or where config.json describes none.
    """
    path = folder / "config.json"
    prompts = JanusPrompts(processor)
    if layout == "original":
        parsed = config_to_transformers(config, image_token_id=prompts.image, path=path)
        text = parsed.text_config
        text.bos_token_id, text.eos_token_id, text.pad_token_id = prompts.bos, prompts.eos, prompts.pad
    else:
        with described_by(path):
            parsed = JanusConfig.from_dict(config)
    with described_by(path):
        text, vision, grid = parsed.text_config, parsed.vision_config, int(parsed.vq_config.num_patches)
        patches = (vision.image_size // vision.patch_size) ** 2
        if text.model_type != "llama" or text.hidden_act != "silu":
            raise ValueError(f"its language model is a {text.model_type} with {text.hidden_act}, not a Llama")
        if text.max_position_embeddings < 1:
            raise ValueError(f"its context has {text.max_position_embeddings} positions")
        largest = max(processor.tokenizer.get_vocab().values())
        if largest >= text.vocab_size:
            raise ValueError(
                f"its vocabulary has {text.vocab_size} tokens, but tokenizer.json has {largest + 1}"
            )
    side = processor.image_processor.size["height"]
    if vision.image_size != side:
        raise ValueError(
            f"{path} describes a vision tower for images of {vision.image_size} pixels, but the processor "
            f"makes them {side} wide; correct the size in {IMAGES_FILE} or {PROCESSOR_FILE}."
        )
    for images, count in (
        (f"generated images of {grid} x {grid} patches", grid**2),
        ("vision tower's images", patches),
    ):
        if processor.num_image_tokens != count:
            raise ValueError(
                f"The processor expects {processor.num_image_tokens} tokens an image, but the model's {images} "
                f"have {count}; correct num_image_tokens in {folder / PROCESSOR_FILE}."
            )
    if parsed.image_token_id != prompts.image:
        raise ValueError(
            f"{path} says that the image token is {parsed.image_token_id}, but the tokenizer says "
            f"{prompts.image}; the tokenizer belongs to another checkpoint."
        )
    return parsed


def _with_weights(
    folder: Path, config: JanusConfig, layout: Layout, dtype: torch.dtype | None
) -> JanusForConditionalGeneration:
    tensors = read_tensors(folder)
    if layout == "original":
        tensors, _ = to_transformers(tensors)
    untie_stored_head(config, tensors)
    check_model_tensors(tensors, config, folder)
    own = next(tensor.dtype for tensor in tensors.values() if tensor.is_floating_point())
    with no_progress_bar():
        model = JanusForConditionalGeneration.from_pretrained(
            None, config=config, state_dict=tensors, dtype=dtype or own
        )
    if dtype == torch.float16:  # its range is smaller than that of other types
        broken = [name for name, tensor in model.named_parameters() if not is_finite(tensor.detach())]
        if broken:
            raise ValueError(f"The weights in {folder} exceed float16 ({few(broken)}); choose another dtype.")
    return model


def check_model_tensors(tensors: Mapping[str, Tensor], config: JanusConfig, folder: Path) -> None:
    """Raise ValueError unless these are the tensors of the model that config.json describes."""
    with described_by(folder / "config.json"), torch.device("meta"):
        expected = JanusForConditionalGeneration(config).state_dict()
    tied = ("lm_head.weight",) if config.tie_word_embeddings else ()
    check_tensors(tensors, expected, folder, tied=tied)


def untie_stored_head(config: JanusConfig, tensors: Mapping[str, Tensor]) -> None:
    """Keep an lm_head that the checkpoint stores, although ``JanusConfig`` ties it to the embeddings by default."""
    if "lm_head.weight" in tensors:
        config.tie_word_embeddings = False
        config.text_config.tie_word_embeddings = False

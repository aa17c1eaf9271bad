"""Minimum cost of the work by arithmetic: bytes that decoding moves, operations that an update performs.

Pure functions of sizes: a share of the roofline is a readable formula, not the output of a profiler.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Parameters and widths of a unified model.

    blocks: parameters of the decoder layers and the last norm. text_head, image_head: parameters of the two
    heads; image_input: of what embeds an image token, its table left out (a row of it is read a token).
    layers, width (queries' total), kv_width (keys' total), vision: parameters, layers, width and tokens of
    the vision tower, its projection included.
    """

    blocks: int
    text_head: int
    image_head: int
    image_input: int
    layers: int
    width: int
    kv_width: int
    vision_parameters: int
    vision_layers: int
    vision_width: int
    vision_tokens: int


def sizes_of(model: Any) -> Sizes:
    """The sizes of a ``JanusForConditionalGeneration``."""

    def count(*modules: Any) -> int:
        return sum(parameter.numel() for module in modules for parameter in module.parameters())

    core, text, vision = model.model, model.config.text_config, model.config.vision_config
    language = core.language_model
    return Sizes(
        blocks=count(language.layers, language.norm),
        text_head=count(model.lm_head),
        image_head=count(core.generation_head),
        image_input=count(core.generation_aligner),
        layers=text.num_hidden_layers,
        width=text.num_attention_heads * text.head_dim,
        kv_width=text.num_key_value_heads * text.head_dim,
        vision_parameters=count(core.vision_model, core.aligner),
        vision_layers=vision.num_hidden_layers,
        vision_width=vision.hidden_size,
        vision_tokens=vision.num_image_tokens,
    )


def decode_bytes(
    sizes: Sizes, prompts: Sequence[int], *, rollouts: int, steps: int, guided: bool, itemsize: int
) -> dict[str, int]:
    """Bytes that decoding images of all the prompts in one batch must move; prompts: their lengths.

    A step reads the weights of blocks, image head and image input once, reads the filled keys and values, and
    writes one position of each row. Guided images are two rows. The first token comes from the prefill, so
    there are steps - 1 such steps; the prefill and activations are not counted, which makes a percent of
    bandwidth of the total time too small rather than too large. Two definitions:

    "distinct": a step reads a prompt's keys and values once for its K rollouts, the minimum;
    "repeated": once for each rollout, as a loop that keeps them a row does.
    """
    branches = 2 if guided else 1
    rows = branches * rollouts
    position = 2 * sizes.layers * sizes.kv_width * itemsize
    weights = (steps - 1) * (sizes.blocks + sizes.image_head + sizes.image_input) * itemsize
    # step s, from 1, writes the s-th position behind the prompt, then reads these s and the prompt
    own = len(prompts) * rows * position * ((steps - 1) * steps // 2 + steps - 1)
    shared = (steps - 1) * sum(prompts) * position
    return {
        "distinct": weights + own + branches * shared,
        "repeated": weights + own + rows * shared,
    }


@dataclass(frozen=True, kw_only=True)
class Group:
    """K trajectories of one prompt. prompt: its length; completions: lengths of what was sampled.

    modality picks the head; imaged: the prompt holds an image that the vision tower must read.
    """

    prompt: int
    completions: tuple[int, ...]
    modality: str
    imaged: bool = False


def update_flops(sizes: Sizes, groups: Iterable[Group], *, vision_trains: bool = False) -> dict[str, float]:
    """Floating-point operations of forward and backward over groups of trajectories, conditional branch.

    A parameter costs 2 operations a token forward and 4 backward; causal attention at position i costs
    4 i width a layer forward and twice that backward; a head runs where a token is scored. A frozen vision
    tower runs forward only. Two definitions, both without activation checkpointing:

    "distinct": each prompt and each image once, the minimum;
    "repeated": the prompt, and its image, once for each of its K trajectories, as the peers compute
    (their heads on every position are not counted as useful).
    """
    distinct = repeated = 0.0
    vision = _vision_flops(sizes, trains=vision_trains)
    for group in groups:
        head = sizes.text_head if group.modality == "text" else sizes.image_head
        scored = 6.0 * head * sum(group.completions)
        # the last sampled token is scored and never read
        after = sum(
            _span_flops(sizes, group.prompt, group.prompt + length - 1) for length in group.completions
        )
        prefix = _span_flops(sizes, 0, group.prompt) + (vision if group.imaged else 0.0)
        distinct += prefix + after + scored
        repeated += len(group.completions) * prefix + after + scored
    return {"distinct": distinct, "repeated": repeated}


def _span_flops(sizes: Sizes, start: int, end: int) -> float:
    """Forward and backward of the blocks over positions start to end of one sequence."""
    context = (end * (end + 1) - start * (start + 1)) / 2
    return 6.0 * sizes.blocks * (end - start) + 12.0 * sizes.layers * sizes.width * context


def _vision_flops(sizes: Sizes, *, trains: bool) -> float:
    """The vision tower over one image: full attention, so every token reads every token."""
    tokens = sizes.vision_tokens
    forward = 2.0 * sizes.vision_parameters * tokens
    forward += 4.0 * sizes.vision_layers * sizes.vision_width * tokens * tokens
    return (3.0 if trains else 1.0) * forward

"""Models by name: the shipped one, and Janus-Pro's shapes with random weights.

Speed does not depend on the values of the weights, so nothing is downloaded. The tokenizer of a random model
splits text into bytes, one token each; its special tokens have Janus' names.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from torch import nn
from transformers import (
    GenerationConfig,
    JanusConfig,
    JanusForConditionalGeneration,
    JanusProcessor,
    LlamaConfig,
    PreTrainedTokenizerFast,
)
from transformers.initialization import no_init_weights
from transformers.models.janus.configuration_janus import JanusVisionConfig, JanusVQVAEConfig
from transformers.models.janus.image_processing_pil_janus import JanusImageProcessorPil

from pairuni.devices import check_device
from pairuni.policies.janus.policy import JanusPolicy
from pairuni.policies.janus.prompts import CHAT_TEMPLATE, IMAGE_TOKENS, PAD_TOKEN
from pairuni.policies.registry import load_policy

BOS, EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
STANDARD_DEVIATION = 0.02
"""Standard deviation of random weights, that of Llama's initialisation."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of a Janus. image_size and patch_size in pixels; everything else in features or counts."""

    hidden: int
    layers: int
    heads: int
    feed_forward: int
    vocabulary: int = 102_400
    positions: int = 16_384
    vision_hidden: int = 1024
    vision_layers: int = 24
    vision_heads: int = 16
    image_size: int = 384
    patch_size: int = 16
    codes: int = 16_384
    vq_channels: int = 128
    vq_multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    vq_latent: int = 256
    vq_blocks: int = 2


SHAPES = {
    "janus-pro-1b": Shape(hidden=2048, layers=24, heads=16, feed_forward=5632),
    "janus-pro-7b": Shape(hidden=4096, layers=30, heads=32, feed_forward=11_008),
}
"""Janus-Pro's sizes (its report's Table 1 and its configurations; tests/policies/test_janus_layouts.py)."""

MODELS = ("tiny", *SHAPES)


def build_policy(
    name: str, *, device: torch.device, dtype: torch.dtype, vocabulary: int | None
) -> JanusPolicy:
    """The model called ``name``; vocabulary replaces the number of text tokens where it is given.

    name: one of ``MODELS``. Raises ValueError for a vocabulary smaller than the tokenizer's.
    """
    if name == "tiny":
        loaded = load_policy("tiny", device=str(device), dtype=str(dtype).removeprefix("torch."))
        assert isinstance(loaded, JanusPolicy)
        if vocabulary is not None:
            return _with_vocabulary(loaded, vocabulary)
        return loaded
    check_device(device)
    return random_policy(SHAPES[name], name=name, device=device, dtype=dtype, vocabulary=vocabulary)


def random_policy(
    shape: Shape,
    *,
    name: str,
    device: torch.device,
    dtype: torch.dtype,
    vocabulary: int | None = None,
    seed: int = 0,
    std: float = STANDARD_DEVIATION,
) -> JanusPolicy:
    """A policy of this shape with random weights, initialised on its device in its dtype."""
    processor = byte_processor(shape)
    config = janus_config(shape, processor, vocabulary or shape.vocabulary)
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device), no_init_weights():
            model = JanusForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(default)
    _init_weights(model, seed, std)
    tokenizer = processor.tokenizer
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        generation_kwargs={"boi_token_id": tokenizer.convert_tokens_to_ids(IMAGE_TOKENS["boi_token"])},
    )
    return JanusPolicy(model, processor, name=name)


@torch.no_grad()
def _init_weights(model: nn.Module, seed: int, std: float) -> None:
    generator: torch.Generator | None = None
    for parameter in model.parameters():
        if generator is None:
            generator = torch.Generator(parameter.device).manual_seed(seed)
        if parameter.ndim > 1:
            parameter.normal_(0.0, std, generator=generator)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.ndim == 1:
                parameter.fill_(1.0 if name == "weight" else 0.0)


@torch.no_grad()
def _with_vocabulary(policy: JanusPolicy, size: int) -> JanusPolicy:
    """The policy with random rows appended to its text embeddings and its text head, up to ``size`` of each."""
    known = policy.module.config.text_config.vocab_size
    if size < known:
        raise ValueError(f"--vocab-size is {size}, but the tokenizer of {policy.name!r} needs {known}")
    embeddings: nn.Embedding = policy.module.get_input_embeddings()
    head: nn.Linear = policy.module.lm_head
    device, dtype, width = embeddings.weight.device, embeddings.weight.dtype, embeddings.weight.shape[1]
    more_embeddings = nn.Embedding(size, width, device=device, dtype=dtype)
    more_head = nn.Linear(width, size, bias=False, device=device, dtype=dtype)
    generator = torch.Generator(device).manual_seed(0)
    for before, after in ((embeddings.weight, more_embeddings.weight), (head.weight, more_head.weight)):
        after.normal_(0.0, STANDARD_DEVIATION, generator=generator)
        after[:known] = before
    policy.module.set_input_embeddings(more_embeddings)
    policy.module.lm_head = more_head
    policy.module.config.text_config.vocab_size = size
    return JanusPolicy(policy.module, policy.processor, name=policy.name)


def byte_processor(shape: Shape) -> JanusProcessor:
    """Byte tokens and images of the shape's size, in Janus-Pro's conversation format."""
    images = JanusImageProcessorPil(
        size={"height": shape.image_size, "width": shape.image_size},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        min_size=min(14, shape.image_size),
    )
    return JanusProcessor(
        image_processor=images,
        tokenizer=_byte_tokenizer(),
        chat_template=CHAT_TEMPLATE,
        use_default_system_prompt=False,
        num_image_tokens=(shape.image_size // shape.patch_size) ** 2,
    )


def _byte_tokenizer() -> PreTrainedTokenizerFast:
    special = [BOS, EOS, PAD_TOKEN, *IMAGE_TOKENS.values(), "<|User|>", "<|Assistant|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(special + alphabet)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, vocabulary[BOS])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD_TOKEN,
        padding_side="left",
        extra_special_tokens=dict(IMAGE_TOKENS),
    )


def janus_config(shape: Shape, processor: JanusProcessor, vocabulary: int) -> JanusConfig:
    """The shape as ``transformers`` configures it. Raises ValueError for too small a vocabulary."""
    if vocabulary < len(processor.tokenizer):
        raise ValueError(f"--vocab-size is {vocabulary}, but the tokenizer needs {len(processor.tokenizer)}")
    tokens = (shape.image_size // shape.patch_size) ** 2
    text = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=shape.positions,
        rms_norm_eps=1e-6,
        tie_word_embeddings=False,
    )
    vision = JanusVisionConfig(
        hidden_size=shape.vision_hidden,
        num_hidden_layers=shape.vision_layers,
        num_attention_heads=shape.vision_heads,
        image_size=shape.image_size,
        patch_size=shape.patch_size,
        projection_dim=shape.hidden,
        num_image_tokens=tokens,
    )
    vq = JanusVQVAEConfig(
        num_embeddings=shape.codes,
        embed_dim=8,
        latent_channels=shape.vq_latent,
        base_channels=shape.vq_channels,
        channel_multiplier=list(shape.vq_multipliers),
        num_res_blocks=shape.vq_blocks,
        num_patches=shape.image_size // shape.patch_size,
        projection_dim=shape.hidden,
        image_token_embed_dim=shape.hidden,
    )
    return JanusConfig(
        text_config=text,
        vision_config=vision,
        vq_config=vq,
        image_token_id=processor.tokenizer.convert_tokens_to_ids(IMAGE_TOKENS["image_token"]),
        tie_word_embeddings=False,
    )

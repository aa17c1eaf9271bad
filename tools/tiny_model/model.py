"""Architecture, tokenizer and processor of the tiny model, a small Janus."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    GenerationConfig,
    JanusConfig,
    JanusForConditionalGeneration,
    JanusProcessor,
    LlamaConfig,
    PreTrainedTokenizerFast,
)
from transformers.models.janus.configuration_janus import JanusVisionConfig, JanusVQVAEConfig
from transformers.models.janus.image_processing_pil_janus import JanusImageProcessorPil

from pairuni.digits.scenes import SIZE

PATCH = 8
IMAGE_TOKENS = (SIZE // PATCH) ** 2
CODES = 512
VOCABULARY = 448

BOS, EOS, PAD = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"
BOI, EOI, IMAGE = "<begin_of_image>", "<end_of_image>", "<image_placeholder>"
USER, ASSISTANT = "<|User|>", "<|Assistant|>"

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|User|>: ' if message['role'] == 'user' else '<|Assistant|>: ' }}"
    "{% for part in message['content'] %}"
    "{{ '<image_placeholder>\\n' if part['type'] == 'image' else part['text'] }}"
    "{% endfor %}"
    "{{ '\\n\\n' if message['role'] == 'user' else '<｜end▁of▁sentence｜>' }}"
    "{% endfor %}"
    "{{ '<|Assistant|>:' if add_generation_prompt else '' }}"
)
"""Janus-Pro's conversation format without a system prompt."""


def train_tokenizer(corpus: Iterable[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with one token for each word of the digits world; it can encode any text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [BOS, EOS, PAD, BOI, EOI, IMAGE, USER, ASSISTANT]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        padding_side="left",
        extra_special_tokens={"image_token": IMAGE, "boi_token": BOI, "eoi_token": EOI},
    )


def make_processor(tokenizer: PreTrainedTokenizerFast) -> JanusProcessor:
    """A processor that scales images to [-1, 1] without resizing, and formats prompts as Janus-Pro does."""
    images = JanusImageProcessorPil(
        size={"height": SIZE, "width": SIZE}, min_size=SIZE, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    return JanusProcessor(images, tokenizer, chat_template=CHAT_TEMPLATE, num_image_tokens=IMAGE_TOKENS)


def make_model(tokenizer: PreTrainedTokenizerFast) -> JanusForConditionalGeneration:
    """The untrained model."""
    hidden = 192
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=6,
        max_position_embeddings=256,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    vision = JanusVisionConfig(
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=SIZE,
        patch_size=PATCH,
        projection_dim=hidden,
        num_image_tokens=IMAGE_TOKENS,
    )
    vq = JanusVQVAEConfig(
        num_embeddings=CODES,
        embed_dim=8,
        latent_channels=64,
        base_channels=32,
        channel_multiplier=[1, 1, 2, 2],
        num_res_blocks=1,
        projection_dim=hidden,
        image_token_embed_dim=hidden,
    )
    config = JanusConfig(
        text_config=text,
        vision_config=vision,
        vq_config=vq,
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
        tie_word_embeddings=False,
    )
    model = JanusForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        guidance_scale=2.0,
        generation_kwargs={"boi_token_id": tokenizer.convert_tokens_to_ids(BOI)},
    )
    return model

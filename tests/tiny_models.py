"""A small random Janus model with tokenizer and processor, built in code.

Like Janus-Pro it has an untied head, a chat template, special tokens by name and PIL preprocessing.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    GenerationConfig,
    JanusConfig,
    JanusForConditionalGeneration,
    JanusProcessor,
    LlamaConfig,
    LlamaModel,
    PreTrainedTokenizerFast,
)
from transformers.models.janus.configuration_janus import JanusVisionConfig, JanusVQVAEConfig
from transformers.models.janus.image_processing_pil_janus import JanusImageProcessorPil

BOS = "<｜begin▁of▁sentence｜>"
EOS = "<｜end▁of▁sentence｜>"
PAD = "<｜▁pad▁｜>"
BOI = "<begin_of_image>"
EOI = "<end_of_image>"
IMAGE = "<image_placeholder>"
SPECIAL_TOKENS = [BOS, EOS, PAD, BOI, EOI, IMAGE, "<|User|>", "<|Assistant|>"]

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ '<|User|>: ' if message['role'] == 'user' else '<|Assistant|>: ' }}"
    "{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'image' -%}{{ '<image_placeholder>\\n' }}"
    "{%- else -%}{{ part['text'] }}{%- endif -%}"
    "{%- endfor -%}"
    "{{ '\\n\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|Assistant|>:' }}{%- endif -%}"
)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE without merges: 256 bytes and the Janus special tokens; BOS in front of every text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(SPECIAL_TOKENS + alphabet)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
    )
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, vocabulary[BOS])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        extra_special_tokens={"image_token": IMAGE, "boi_token": BOI, "eoi_token": EOI},
    )


def tiny_processor(
    image_size: int = 32, patch_size: int = 8, chat_template: str | None = CHAT_TEMPLATE
) -> JanusProcessor:
    """Processor of images of ``image_size`` pixels, (image_size / patch_size)^2 image tokens each."""
    image_processor = JanusImageProcessorPil(
        size={"height": image_size, "width": image_size},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
        min_size=4,
    )
    return JanusProcessor(
        image_processor=image_processor,
        tokenizer=tiny_tokenizer(),
        chat_template=chat_template,
        use_default_system_prompt=False,
        num_image_tokens=(image_size // patch_size) ** 2,
    )


def tiny_config(
    vocabulary: int,
    image_token_id: int,
    *,
    image_size: int = 32,
    patch_size: int = 8,
    codes: int = 24,
    hidden: int = 32,
    layers: int = 2,
) -> JanusConfig:
    """The configuration; by default about a quarter of a million parameters, most of them in the VQ."""
    tokens = (image_size // patch_size) ** 2
    levels = (patch_size).bit_length()
    return JanusConfig(
        text_config=LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=hidden,
            intermediate_size=hidden * 3 // 2,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=512,
            rms_norm_eps=1e-6,
            tie_word_embeddings=False,
        ),
        vision_config=JanusVisionConfig(
            hidden_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=image_size,
            patch_size=patch_size,
            mlp_ratio=2.0,
            projection_dim=hidden,
            num_image_tokens=tokens,
        ),
        vq_config=JanusVQVAEConfig(
            embed_dim=8,
            num_embeddings=codes,
            latent_channels=32,
            base_channels=32,
            channel_multiplier=[1] * levels,
            num_res_blocks=1,
            projection_dim=hidden,
            image_token_embed_dim=hidden,
        ),
        image_token_id=image_token_id,
        tie_word_embeddings=False,
    )


def tiny_janus(
    seed: int = 0, *, image_size: int = 32, patch_size: int = 8, **sizes: int
) -> tuple[JanusForConditionalGeneration, JanusProcessor]:
    """A random model and its processor; weights are large enough that predictions are far from uniform.

    sizes: of ``tiny_config``.
    """
    processor = tiny_processor(image_size, patch_size)
    tokenizer = processor.tokenizer
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    config = tiny_config(len(tokenizer), ids[IMAGE], image_size=image_size, patch_size=patch_size, **sizes)
    random_state = torch.get_rng_state()
    torch.manual_seed(seed)
    model = JanusForConditionalGeneration(config).eval()
    with torch.no_grad():
        for module in (model.model.language_model, model.model.vision_model, model.model.aligner):
            for parameter in module.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(0.0, 0.25)
        model.lm_head.weight.normal_(0.0, 0.25)
        for module in (
            model.model.generation_embeddings,
            model.model.generation_aligner,
            model.model.generation_head,
        ):
            for parameter in module.parameters():
                parameter.normal_(0.0, 0.5)
    torch.set_rng_state(random_state)
    model.generation_config = GenerationConfig(
        bos_token_id=ids[BOS],
        eos_token_id=ids[EOS],
        pad_token_id=ids[PAD],
        generation_kwargs={"boi_token_id": ids[BOI]},
    )
    return model, processor


def save_tiny_janus(folder: Path, seed: int = 0) -> Path:
    """Write the tiny model in the transformers layout and return its folder."""
    model, processor = tiny_janus(seed)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def tiny_llama(kv_heads: int) -> LlamaModel:
    """A random language model with biases and four heads."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=kv_heads,
        max_position_embeddings=64,
        attention_bias=True,
    )
    return LlamaModel(config).eval()

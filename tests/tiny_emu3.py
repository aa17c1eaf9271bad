"""A small random Emu3 of plain ``transformers`` with tokenizer and processor, built in code.

Names of special tokens and the chat template are those of the released checkpoints.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    Emu3Config,
    Emu3ForConditionalGeneration,
    Emu3ImageProcessor,
    Emu3Processor,
    Emu3TextConfig,
    Emu3VQVAEConfig,
    PreTrainedTokenizerFast,
)

CODES = 24
END_OF_LINE = "<|extra_200|>"
NAMED = {
    "bos_token": "<|extra_203|>",
    "eos_token": "<|extra_204|>",
    "pad_token": "<|endoftext|>",
    "image_token": "<image>",
    "boi_token": "<|image start|>",
    "eoi_token": "<|image end|>",
    "image_wrapper_token": "<|image token|>",
    "eof_token": "<|extra_201|>",
}
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] != 'system' %}{{ message['role'].upper() + ': '}}{% endif %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>' }}{% endfor %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ part['text'] + ' '}}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


def tiny_processor() -> Emu3Processor:
    """Bytes, special tokens and visual tokens; images of 2 x 2 to 4 x 4 visual tokens, drawn in 3 x 4."""
    special = [*NAMED.values(), END_OF_LINE, *(f"<|visual token {code:06d}|>" for code in range(CODES))]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={one: n for n, one in enumerate(alphabet + special)}, merges=[]))
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        extra_special_tokens={key: NAMED[key] for key in list(NAMED)[3:]},
        **{key: NAMED[key] for key in list(NAMED)[:3]},
    )
    images = Emu3ImageProcessor(min_pixels=16 * 16, max_pixels=32 * 32)
    return Emu3Processor(images, tokenizer, chat_template=CHAT_TEMPLATE)


def tiny_emu3(seed: int = 0, **text: object) -> tuple[Emu3ForConditionalGeneration, Emu3Processor]:
    """A random model and its processor; weights are large enough that predictions are far from uniform.

    text: changes to the configuration of the language model.
    """
    processor = tiny_processor()
    vocabulary = processor.tokenizer.get_vocab()
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
    }
    config = Emu3Config(
        text_config=Emu3TextConfig(
            vocab_size=len(vocabulary),
            bos_token_id=processor.tokenizer.bos_token_id,
            eos_token_id=processor.tokenizer.eos_token_id,
            pad_token_id=processor.tokenizer.pad_token_id,
            **{**sizes, **text},
        ),
        vq_config=Emu3VQVAEConfig(
            codebook_size=CODES,
            embed_dim=4,
            latent_channels=4,
            base_channels=32,
            channel_multiplier=[1, 1, 1, 1],
            num_res_blocks=1,
            attn_resolutions=[],
            hidden_size=32,
            temporal_downsample_factor=1,
        ),
        vocabulary_map=vocabulary,
    )
    random_state = torch.get_rng_state()
    torch.manual_seed(seed)
    model = Emu3ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in (*model.model.text_model.parameters(), model.lm_head.weight):
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.25)
    torch.set_rng_state(random_state)
    return model, processor


def save_tiny_emu3(folder: Path, seed: int = 0) -> Path:
    """Write the tiny model and return its folder."""
    model, processor = tiny_emu3(seed)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder

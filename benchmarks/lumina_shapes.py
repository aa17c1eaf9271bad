"""Lumina-DiMOO in its published size: configuration and tokenizer without weights."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, PreTrainedTokenizerFast

from pairuni.policies.lumina_dimoo.ids import NAMES, TokenIds
from pairuni.policies.lumina_dimoo.model_config import config_to_original
from pairuni.policies.lumina_dimoo.vq import FOLDER

_VQ = {
    "_class_name": "VQModel",
    "act_fn": "silu",
    "block_out_channels": [128, 256, 256, 512, 768],
    "down_block_types": ["DownEncoderBlock2D"] * 5,
    "in_channels": 3,
    "latent_channels": 64,
    "layers_per_block": 2,
    "mid_block_add_attention": False,
    "norm_num_groups": 32,
    "num_vq_embeddings": 8192,
    "out_channels": 3,
    "sample_size": 32,
    "up_block_types": ["UpDecoderBlock2D"] * 5,
}
"""The geometry of aMUSEd, which Lumina-DiMOO's is said to have: 16 pixels a code."""


def lumina_config(ids: TokenIds) -> LlamaConfig:
    """The published sizes of Lumina-DiMOO, 8 billion parameters."""
    return LlamaConfig(
        vocab_size=ids.vocabulary,
        hidden_size=4096,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=32,
        intermediate_size=12288,
        max_position_embeddings=4096,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},
        tie_word_embeddings=False,
    )


def write_skeleton(folder: Path) -> None:
    """Configuration, a tokenizer of bytes with the published special ids, and the configuration of the VQ."""
    ids = TokenIds()
    (folder / FOLDER).mkdir(parents=True)
    config = json.dumps(config_to_original(lumina_config(ids), ids))
    (folder / "config.json").write_text(config, encoding="utf-8")
    (folder / FOLDER / "config.json").write_text(json.dumps(_VQ), encoding="utf-8")
    _tokenizer(ids).save_pretrained(folder)


def _tokenizer(ids: TokenIds) -> PreTrainedTokenizerFast:
    names = {getattr(ids, role): token for role, token in NAMES.items()}
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(letters)}
    vocabulary |= {
        names.get(index, f"<|reserved_{index}|>"): index for index in range(len(letters), ids.codes)
    }
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.add_special_tokens([AddedToken(one, special=True, normalized=False) for one in names.values()])
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=NAMES["end"])

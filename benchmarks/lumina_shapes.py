"""Lumina-DiMOO in its published size and in a small one: configuration, tokenizer, random weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, PreTrainedTokenizerFast

from benchmarks.shapes import STANDARD_DEVIATION
from pairuni.policies.lumina_dimoo.ids import NAMES, TokenIds
from pairuni.policies.lumina_dimoo.loading import load_checkpoint
from pairuni.policies.lumina_dimoo.model_config import config_to_original
from pairuni.policies.lumina_dimoo.policy import LuminaDimooPolicy
from pairuni.policies.lumina_dimoo.sampling_config import SamplingConfig
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


SIZES = {"lumina-dimoo": (4096, 32, 32, 12_288), "small": (256, 6, 4, 768)}
"""Width, layers, heads and width of the MLP; the published ones have 8 billion parameters."""


def lumina_config(ids: TokenIds, name: str = "lumina-dimoo") -> LlamaConfig:
    """The sizes of a model by its name."""
    hidden, layers, heads, wide = SIZES[name]
    return LlamaConfig(
        vocab_size=ids.vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        intermediate_size=wide,
        max_position_embeddings=4096,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},
        tie_word_embeddings=False,
    )


def build_lumina(
    name: str, folder: Path, *, device: str, dtype: str, image_size: int | None, image_steps: int
) -> LuminaDimooPolicy:
    """A policy of this size with random weights, initialised on its device. folder: for its configuration."""
    write_skeleton(folder / "model", name)
    checkpoint = load_checkpoint(folder / "model", dtype=getattr(torch, dtype), weights=False)
    model = checkpoint.model.to_empty(device=device)
    model.model.rotary_emb = type(model.model.rotary_emb)(model.config).to(device)
    draws = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, STANDARD_DEVIATION, generator=draws)
            else:
                parameter.fill_(1.0)
    size = image_size or (128 if name == "small" else 512)
    config = SamplingConfig(image_size=size, image_steps=image_steps)
    return LuminaDimooPolicy(replace(checkpoint, model=model), config, name=name)


def write_skeleton(folder: Path, name: str = "lumina-dimoo") -> None:
    """Configuration, a tokenizer of bytes with the published special ids, and the configuration of the VQ."""
    ids = TokenIds() if name == "lumina-dimoo" else _SMALL_IDS
    (folder / FOLDER).mkdir(parents=True)
    config = json.dumps(config_to_original(lumina_config(ids, name), ids))
    (folder / "config.json").write_text(config, encoding="utf-8")
    (folder / FOLDER / "config.json").write_text(json.dumps(_VQ), encoding="utf-8")
    _tokenizer(ids).save_pretrained(folder)


_SMALL_IDS = TokenIds(
    mask=256,
    newline=257,
    end=258,
    padding=259,
    image_start=260,
    image_end=261,
    uncondition=262,
    answer_start=263,
    answer_end=264,
    codes=265,
)


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

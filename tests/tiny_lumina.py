"""A small Lumina-DiMOO with seeded weights in the original layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from pairuni.policies.lumina_dimoo.ids import NAMES, TokenIds
from pairuni.policies.lumina_dimoo.vq import new_vq
from tiny_models import tiny_tokenizer

IDS = TokenIds(
    mask=30,
    newline=31,
    end=32,
    padding=33,
    image_start=34,
    image_end=35,
    uncondition=36,
    answer_start=37,
    answer_end=38,
    codes=40,
    codebook=24,
)
"""40 text tokens and 24 codes."""

CONFIG: dict[str, Any] = {
    "architectures": ["LLaDAForMultiModalGeneration"],
    "model_type": "llada",
    "d_model": 32,
    "n_layers": 2,
    "n_heads": 4,
    "n_kv_heads": 4,
    "mlp_hidden_size": 48,
    "max_sequence_length": 256,
    "vocab_size": 64,
    "embedding_size": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "rope": True,
    "rope_full_precision": True,
    "alibi": False,
    "block_type": "llama",
    "block_group_size": 1,
    "activation_type": "silu",
    "layer_norm_type": "rms",
    "layer_norm_with_affine": True,
    "bias_for_layer_norm": False,
    "attention_layer_norm": False,
    "include_bias": False,
    "include_qkv_bias": False,
    "input_emb_norm": False,
    "scale_logits": False,
    "weight_tying": False,
    "multi_query_attention": None,
    "attention_dropout": 0.0,
    "residual_dropout": 0.0,
    "embedding_dropout": 0.0,
    "init_device": "meta",
    "eos_token_id": 32,
    "mask_token_id": 30,
    "use_cache": False,
    "token_ids": IDS.declared(),
}

RELEASED: dict[str, Any] = {
    **{key: value for key, value in CONFIG.items() if key != "token_ids"},
    "d_model": 4096,
    "n_layers": 32,
    "n_heads": 32,
    "n_kv_heads": 32,
    "mlp_hidden_size": 12288,
    "max_sequence_length": 4096,
    "vocab_size": 134548,
    "embedding_size": 134548,
    "eos_token_id": 126081,
    "mask_token_id": 126336,
}
"""The full size: LLaDA-8B with the vocabulary of Lumina-DiMOO."""


def shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    width, inner, rows = config["d_model"], config["mlp_hidden_size"], config["embedding_size"]
    found: dict[str, tuple[int, ...]] = {
        "model.transformer.wte.weight": (rows, width),
        "model.transformer.ln_f.weight": (width,),
        "model.transformer.ff_out.weight": (rows, width),
    }
    for layer in range(config["n_layers"]):
        block = f"model.transformer.blocks.{layer}"
        for name in ("q_proj", "k_proj", "v_proj", "attn_out"):
            found[f"{block}.{name}.weight"] = (width, width)
        for name in ("ff_proj", "up_proj"):
            found[f"{block}.{name}.weight"] = (inner, width)
        found[f"{block}.ff_out.weight"] = (width, inner)
        for name in ("attn_norm", "ff_norm"):
            found[f"{block}.{name}.weight"] = (width,)
    return found


def tensors(config: dict[str, Any] | None = None, seed: int = 7) -> dict[str, Tensor]:
    """Float32 weights by their original names, from a legacy generator of numpy, whose stream never changes.

    They are large enough that predictions are far from uniform and depend on every position.
    """
    rng = np.random.RandomState(seed)
    made = {}
    for name, shape in sorted(shapes(config or CONFIG).items()):
        values = rng.standard_normal(shape)
        if "norm" in name or "ln_f" in name:
            values = 1 + 0.2 * values
        elif "wte" not in name:
            values = values * 1.5 / np.sqrt(shape[-1])
        made[name] = torch.from_numpy(values.astype(np.float32))
    return made


def save_tiny_lumina(folder: Path, seed: int = 7, **changes: Any) -> dict[str, Tensor]:
    """Write a checkpoint of the original layout without tokenizer and VQ; changes: of config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    made = tensors(CONFIG, seed)
    save_file(made, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({**CONFIG, **changes}), encoding="utf-8")
    return made


def plain_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of bytes of ``tiny_models``, without a token in front of every text."""
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


AMUSED: dict[str, Any] = {
    "act_fn": "silu",
    "block_out_channels": [128, 256, 256, 512, 768],
    "down_block_types": ["DownEncoderBlock2D"] * 5,
    "in_channels": 3,
    "latent_channels": 64,
    "layers_per_block": 2,
    "lookup_from_codebook": True,
    "mid_block_add_attention": False,
    "norm_num_groups": 32,
    "norm_type": "group",
    "num_vq_embeddings": 8192,
    "out_channels": 3,
    "sample_size": 32,
    "scaling_factor": 0.18215,
    "up_block_types": ["UpDecoderBlock2D"] * 5,
    "vq_embed_dim": None,
    "force_upcast": True,
}
"""vqvae/config.json of amused/amused-512, whose geometry Lumina-DiMOO's is said to have."""

TINY_VQ: dict[str, Any] = {
    **AMUSED,
    "block_out_channels": [8, 8],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "latent_channels": 4,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "num_vq_embeddings": 24,
}
"""Two pixels a code."""


BYTE_IDS = TokenIds(
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
    codebook=24,
)
"""Ids of a model whose text tokens are bytes."""


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """256 bytes and the special tokens of ``BYTE_IDS``."""
    special = {getattr(BYTE_IDS, role): token for role, token in NAMES.items()}
    special |= {BYTE_IDS.newline: "<|reserved_0|>", BYTE_IDS.padding: "<|reserved_1|>"}
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *(special[one] for one in sorted(special))]
    backend = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=[]))
    backend.add_special_tokens([AddedToken(one, special=True, normalized=False) for one in tokens[256:]])
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=NAMES["end"])


SAMPLING = {
    "image_size": 8,
    "edit_size": 8,
    "question_size": 8,
    "image_steps": 4,
    "answer_length": 8,
    "text_block": 4,
    "text_steps": 2,
}
"""Of a model whose codes have a side of two pixels: about 4 x 4 codes an image."""


def save_byte_lumina(folder: Path, seed: int = 7, **sampling: Any) -> dict[str, Tensor]:
    """Write a whole checkpoint whose text tokens are bytes, with tokenizer and VQ.

    sampling: its own sampling settings, such as ``SAMPLING``.
    """
    rows = BYTE_IDS.vocabulary
    config = {**CONFIG, "vocab_size": rows, "embedding_size": rows, "token_ids": BYTE_IDS.declared()}
    if sampling:
        config["sampling"] = sampling
    folder.mkdir(parents=True, exist_ok=True)
    made = tensors(config, seed)
    save_file(made, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config, indent=3), encoding="utf-8")
    byte_tokenizer().save_pretrained(folder)
    random_state = torch.get_rng_state()
    torch.manual_seed(seed)
    vq: Any = new_vq(**TINY_VQ)
    with torch.no_grad():
        vq.quantize.embedding.weight.normal_()
        vq.quant_conv.weight.normal_(0, 2)
    torch.set_rng_state(random_state)
    vq.save_pretrained(folder / "vqvae")
    return made

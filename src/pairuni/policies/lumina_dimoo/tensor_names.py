"""Tensor names of the original layout (LLaDA's) and of ``transformers``' ``LlamaForCausalLM``, in both directions.

The original's block is Llama's with other names (Alpha-VLLM/Lumina-DiMOO, ``model/modeling_llada.py``,
``LLaDALlamaBlock``): ``ff_proj`` is the gate, ``ff_out`` the down projection, ``transformer.ff_out`` the head.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_TOP = {
    "model.transformer.wte": "model.embed_tokens",
    "model.transformer.ln_f": "model.norm",
    "model.transformer.ff_out": "lm_head",
}
_BLOCK, _LAYER = "model.transformer.blocks.", "model.layers."
_PARTS = {
    "q_proj": "self_attn.q_proj",
    "k_proj": "self_attn.k_proj",
    "v_proj": "self_attn.v_proj",
    "attn_out": "self_attn.o_proj",
    "ff_proj": "mlp.gate_proj",
    "up_proj": "mlp.up_proj",
    "ff_out": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ff_norm": "post_attention_layernorm",
}
_TOP_BACK = {new: old for old, new in _TOP.items()}
_PARTS_BACK = {new: old for old, new in _PARTS.items()}


def to_transformers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Original tensors under their transformers names. Names without a rule stay, for the caller to report."""
    return {_renamed(name, _BLOCK, _LAYER, _TOP, _PARTS): tensor for name, tensor in tensors.items()}


def to_original(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of ``to_transformers``."""
    return {
        _renamed(name, _LAYER, _BLOCK, _TOP_BACK, _PARTS_BACK): tensor for name, tensor in tensors.items()
    }


def _renamed(name: str, old: str, new: str, top: Mapping[str, str], parts: Mapping[str, str]) -> str:
    stem, _, kind = name.rpartition(".")
    if kind != "weight":
        return name
    if stem in top:
        return f"{top[stem]}.{kind}"
    match = re.fullmatch(rf"{re.escape(old)}(\d+)\.(.+)", stem)
    if match is None or match[2] not in parts:
        return name
    return f"{new}{match[1]}.{parts[match[2]]}.{kind}"

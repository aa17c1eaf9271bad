"""config.json of the original layout as a ``LlamaConfig``, and back.

Lumina-DiMOO is a LLaDA, whose configuration can describe many architectures (Alpha-VLLM/Lumina-DiMOO,
``model/configuration_llada.py``). Those that compute what Llama computes are accepted. Attention is bidirectional,
which no configuration says.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import LlamaConfig

from pairuni.policies.lumina_dimoo.ids import SECTION, TokenIds, token_ids

MODEL_TYPE = "llada"

_SIZES = {
    "d_model": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "mlp_hidden_size": "intermediate_size",
    "max_sequence_length": "max_position_embeddings",
}
_MOST = {"n_layers": 1024}
_LARGEST = 2**31

_REQUIRED: dict[str, tuple[Any, ...]] = {
    "block_type": ("llama",),
    "activation_type": ("silu",),
    "layer_norm_type": ("rms",),
    "rope": (True,),
    "alibi": (False, None),
    "attention_layer_norm": (False, None),
    "layer_norm_with_affine": (True, None),
    "bias_for_layer_norm": (False, None),
    "include_bias": (False, None),
    "include_qkv_bias": (False, None),
    "input_emb_norm": (False, None),
    "scale_logits": (False, None),
    "weight_tying": (False,),
    "block_group_size": (1, None),
    "multi_query_attention": (False, None),
}
"""Settings that decide whether the model is a Llama, with the values that make it one; None: may be absent."""


def config_to_transformers(original: Mapping[str, Any], path: Path) -> tuple[LlamaConfig, TokenIds]:
    """The ``LlamaConfig`` of an original config.json and the model's special ids; path: the file's name in errors.

    Raises ValueError for another architecture, impossible numbers, and a vocabulary that does not end with the codes.
    """
    for key, allowed in _REQUIRED.items():
        if (value := original.get(key)) not in allowed:
            raise ValueError(f"{path} gives {key} as {value!r}, which is not supported; {allowed[0]!r} is.")
    sizes = {key: _whole(original, key, path) for key in _SIZES if key != "n_kv_heads"}
    heads = original.get("n_kv_heads")
    sizes["n_kv_heads"] = sizes["n_heads"] if heads is None else _whole(original, "n_kv_heads", path)
    if sizes["d_model"] % sizes["n_heads"] or sizes["n_heads"] % sizes["n_kv_heads"]:
        raise ValueError(
            f"{path} gives {sizes['n_heads']} heads and {sizes['n_kv_heads']} key-value heads for a width of "
            f"{sizes['d_model']}, which cannot be split; restore the file."
        )
    rows = "vocab_size" if original.get("embedding_size") is None else "embedding_size"
    ids = token_ids(original, path)
    vocabulary = _whole(original, rows, path)
    ids.check_vocabulary(vocabulary, path)
    return (
        LlamaConfig(
            vocab_size=vocabulary,
            **{new: sizes[old] for old, new in _SIZES.items()},
            rms_norm_eps=_positive(original, "rms_norm_eps", path),
            rope_parameters={"rope_type": "default", "rope_theta": _positive(original, "rope_theta", path)},
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=ids.end,
            pad_token_id=None,
        ),
        ids,
    )


def config_to_original(config: LlamaConfig, ids: TokenIds) -> dict[str, Any]:
    """A config.json of the original layout for a model that was not loaded from one."""
    declared = ids.declared()
    return {
        "architectures": ["LLaDAForMultiModalGeneration"],
        "model_type": MODEL_TYPE,
        **{old: getattr(config, new) for old, new in _SIZES.items()},
        "vocab_size": config.vocab_size,
        "embedding_size": config.vocab_size,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_parameters["rope_theta"],
        "rope_full_precision": True,
        **{key: allowed[0] for key, allowed in _REQUIRED.items()},
        "multi_query_attention": None,
        **dict.fromkeys(("attention_dropout", "residual_dropout", "embedding_dropout"), 0.0),
        "eos_token_id": ids.end,
        "mask_token_id": ids.mask,
        **({SECTION: declared} if declared else {}),
    }


def _whole(config: Mapping[str, Any], key: str, path: Path) -> int:
    value, most = config.get(key), _MOST.get(key, _LARGEST)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise ValueError(f"{path} gives {key} as {str(value)[:40]}, but needs 1 to {most}; restore the file.")
    return value


def _positive(config: Mapping[str, Any], key: str, path: Path) -> float:
    value = config.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < float("inf"):
        raise ValueError(f"{path} gives {key} as {str(value)[:40]}, but needs a positive number; restore it.")
    return float(value)

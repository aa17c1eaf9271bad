"""The weights of a Lumina-DiMOO checkpoint in the original layout: loaded into, and saved from, ``LlamaForCausalLM``.

The module only holds the weights. Its own forward pass is causal and must not be used; ``model.LuminaDimoo`` computes.
Checkpoints are untrusted: no code in the folder runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from transformers import LlamaForCausalLM

from pairuni.policies.files import read_json
from pairuni.policies.lumina_dimoo.ids import TokenIds
from pairuni.policies.lumina_dimoo.model_config import MODEL_TYPE, config_to_original, config_to_transformers
from pairuni.policies.lumina_dimoo.tensor_names import to_original, to_transformers
from pairuni.policies.tensors import check_tensors, few, is_finite, read_tensors


def load_model(
    folder: Path, *, dtype: torch.dtype | None = None, weights: bool = True
) -> tuple[LlamaForCausalLM, TokenIds]:
    """The model in eval mode on the CPU, and its special ids. dtype None keeps the checkpoint's own.

    weights: without them the model has shapes only, on the device "meta". Raises ValueError when config.json describes
    another model, and when the weights are missing, damaged or do not fit it.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder} has no config.json; give the folder of a Lumina-DiMOO checkpoint.")
    original = read_json(path)
    if original.get("model_type") != MODEL_TYPE:
        raise ValueError(
            f"{path} has the model_type {original.get('model_type')!r}; supported: {MODEL_TYPE}."
        )
    config, ids = config_to_transformers(original, path)
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    if not weights:
        return model.to(dtype or torch.float32).eval(), ids
    tensors = to_transformers(read_tensors(folder))
    check_tensors(tensors, model.state_dict(), folder)
    wanted = dtype or next(iter(tensors.values())).dtype
    tensors = {name: tensor.to(wanted) for name, tensor in tensors.items()}
    if wanted == torch.float16:  # its range is smaller than that of other types
        broken = [name for name, tensor in tensors.items() if not is_finite(tensor)]
        if broken:
            raise ValueError(f"The weights in {folder} exceed float16 ({few(broken)}); choose another dtype.")
    model.load_state_dict(tensors, assign=True)
    # not stored in a checkpoint, and so still on "meta"
    model.model.rotary_emb = type(model.model.rotary_emb)(config)
    return model.eval(), ids


def save_model(
    model: LlamaForCausalLM, ids: TokenIds, folder: Path, *, original: Mapping[str, Any] | None = None
) -> None:
    """Write weights and config.json in the original layout, dtypes unchanged.

    original: the config.json that the model was loaded with, kept as it is; by default a new one.
    """
    tensors = to_original({name: tensor.detach() for name, tensor in model.state_dict().items()})
    save_torch_state_dict({name: tensor.contiguous() for name, tensor in tensors.items()}, folder)
    config = config_to_original(model.config, ids) if original is None else dict(original)
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")

"""The weights of a Lumina-DiMOO checkpoint, loaded into, and saved from, ``LlamaForCausalLM``.

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
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from pairuni.policies.conversion import Layout
from pairuni.policies.files import read_json
from pairuni.policies.lumina_dimoo.ids import TokenIds
from pairuni.policies.lumina_dimoo.model_config import MODEL_TYPE, config_to_original, config_to_transformers
from pairuni.policies.lumina_dimoo.tensor_names import to_original, to_transformers
from pairuni.policies.tensors import check_tensors, few, is_finite, read_tensors

ORIGINAL = "lumina_dimoo"
"""Key of config.json in the layout of transformers: the config.json of the original layout."""


def load_model(
    folder: Path, *, dtype: torch.dtype | None = None, weights: bool = True
) -> tuple[LlamaForCausalLM, TokenIds]:
    """The model in eval mode on the CPU, and its special ids. dtype None keeps the checkpoint's own.

    weights: without them the model has shapes only, on the device "meta". Raises ValueError when config.json describes
    another model, and when the weights are missing, damaged or do not fit it.
    """
    original, layout = read_config(folder)
    config, ids = config_to_transformers(original, folder / "config.json")
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    if not weights:
        return model.to(dtype or torch.float32).eval(), ids
    tensors = read_tensors(folder)
    if layout == "original":
        tensors = to_transformers(tensors)
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
    tensors = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    own = config_to_original(model.config, ids) if original is None else original
    save_tensors(tensors, model.config, folder, "original", original=own)


def read_config(folder: Path) -> tuple[dict[str, Any], Layout]:
    """The config.json of the original layout, also from the other one, and the layout of the folder.

    Raises ValueError naming the file when it is missing, damaged or of another model.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder} has no config.json; give the folder of a Lumina-DiMOO checkpoint.")
    config = read_json(path)
    if config.get("model_type") == MODEL_TYPE:
        return config, "original"
    original = config.get(ORIGINAL)
    if config.get("model_type") == "llama" and isinstance(original, dict):
        return original, "transformers"
    raise ValueError(
        f"{path} has the model_type {config.get('model_type')!r}; supported: {MODEL_TYPE}, and llama with {ORIGINAL}."
    )


def save_tensors(
    tensors: Mapping[str, Tensor],
    config: LlamaConfig,
    folder: Path,
    layout: Layout,
    *,
    original: Mapping[str, Any],
) -> None:
    """Write tensors, by their transformers names, and config.json. original: that of the original layout."""
    content: dict[str, Any] = dict(original)
    if layout == "original":
        tensors = to_original(tensors)
    else:
        llama = {**config.to_dict(), "architectures": ["LlamaForCausalLM"]}
        content = {**llama, ORIGINAL: content}
    save_torch_state_dict({name: _own(tensor) for name, tensor in tensors.items()}, folder)
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")


def _own(tensor: Tensor) -> Tensor:
    """The tensor on the CPU in storage of its own: matrices that decoding joins share theirs, which are not saved."""
    alone = tensor.cpu().contiguous()
    return alone if alone.untyped_storage().nbytes() == alone.nbytes else alone.clone()

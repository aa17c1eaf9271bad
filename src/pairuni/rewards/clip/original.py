"""Conversion of open_clip's ViT-H-14 checkpoints, such as HPSv2's, to a ``transformers`` CLIPModel.

Names are those of the state dict of open_clip's ``CLIP`` class. Sizes are read from the tensors, except the width of
an attention head, which is that of ViT-H-14: 80 in the vision tower, 64 in the text tower.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

VISION_HEAD, TEXT_HEAD = 80, 64
"""Width of an attention head in ViT-H-14's towers."""

_RENAMED = {
    "logit_scale": "logit_scale",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
}
_NORMS = {
    "ln_final": "text_model.final_layer_norm",
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
}
_TRANSPOSED = {
    "text_projection": "text_projection.weight",
    "visual.proj": "visual_projection.weight",
}
_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}

_SIZED = (
    "visual.conv1.weight",
    "visual.positional_embedding",
    "visual.proj",
    "text_projection",
    "token_embedding.weight",
    "positional_embedding",
    "visual.transformer.resblocks.0.mlp.c_fc.weight",
    "transformer.resblocks.0.mlp.c_fc.weight",
)
"""Tensors whose shapes give the model's sizes."""


def key_map(config: CLIPConfig) -> dict[str, tuple[str, ...]]:
    """open_clip's name -> the names in CLIPModel; ``in_proj`` is split into query, key and value."""
    names: dict[str, tuple[str, ...]] = {old: (new,) for old, new in (_RENAMED | _TRANSPOSED).items()}
    for old, new in _NORMS.items():
        names |= {f"{old}.{part}": (f"{new}.{part}",) for part in ("weight", "bias")}
    towers = (("", "text_model", config.text_config), ("visual.", "vision_model", config.vision_config))
    for prefix, tower, sizes in towers:
        for layer in range(sizes.num_hidden_layers):
            block = f"{prefix}transformer.resblocks.{layer}"
            here = f"{tower}.encoder.layers.{layer}"
            for part in ("weight", "bias"):
                names |= {f"{block}.{old}.{part}": (f"{here}.{new}.{part}",) for old, new in _BLOCK.items()}
                names[f"{block}.attn.in_proj_{part}"] = tuple(
                    f"{here}.self_attn.{one}_proj.{part}" for one in "qkv"
                )
    return names


def config_of(state: Mapping[str, Tensor]) -> CLIPConfig:
    """The model sizes that belong to the weights. Raises ValueError naming a missing or mismatched tensor."""
    if absent := [name for name in _SIZED if name not in state]:
        raise ValueError(f"it is not a checkpoint of open_clip's CLIP: {_some(absent)} missing")
    shape = {name: tuple(state[name].shape) for name in _SIZED}
    vision_width, _, _, patch = shape["visual.conv1.weight"]
    positions, _ = shape["visual.positional_embedding"]
    vocabulary, text_width = shape["token_embedding.weight"]
    if vision_width % VISION_HEAD or text_width % TEXT_HEAD:
        raise ValueError(
            f"its towers are {vision_width} and {text_width} wide, unlike those of ViT-H-14 (1280 and 1024)"
        )
    text = {
        "hidden_size": text_width,
        "intermediate_size": shape["transformer.resblocks.0.mlp.c_fc.weight"][0],
        "num_hidden_layers": _blocks(state, "transformer.resblocks."),
        "num_attention_heads": text_width // TEXT_HEAD,
        "max_position_embeddings": shape["positional_embedding"][0],
        "vocab_size": vocabulary,
        "hidden_act": "gelu",
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
        "pad_token_id": vocabulary - 1,
    }
    vision = {
        "hidden_size": vision_width,
        "intermediate_size": shape["visual.transformer.resblocks.0.mlp.c_fc.weight"][0],
        "num_hidden_layers": _blocks(state, "visual.transformer.resblocks."),
        "num_attention_heads": vision_width // VISION_HEAD,
        "patch_size": patch,
        "image_size": patch * round((positions - 1) ** 0.5),
        "hidden_act": "gelu",
    }
    return CLIPConfig(text_config=text, vision_config=vision, projection_dim=shape["text_projection"][1])


def clip_from_original(state: Mapping[str, Tensor]) -> CLIPModel:
    """A CLIPModel with open_clip's weights, in their own dtypes and copied only where the layout differs.

    Raises ValueError naming weights that are missing, unknown or of the wrong shape.
    """
    config = config_of(state)
    names = key_map(config)
    if absent := sorted(names.keys() - state.keys()):
        raise ValueError(f"it has no {_some(absent)}")
    if unknown := sorted(state.keys() - names.keys()):
        raise ValueError(f"it contains {_some(unknown)}, which a CLIP model of this size does not have")
    with torch.device("meta"):
        model = CLIPModel(config)
    wanted = model.state_dict()
    weights: dict[str, Tensor] = {}
    for old, new in names.items():
        tensor = state[old].T if old in _TRANSPOSED else state[old]
        for name, part in zip(new, tensor.chunk(len(new)) if len(new) > 1 else (tensor,), strict=True):
            if part.shape != wanted[name].shape:
                raise ValueError(
                    f"{old} has the shape {list(state[old].shape)}, which does not fit the others"
                )
            weights[name] = part.contiguous()
    model.load_state_dict(weights, assign=True)
    if not state["logit_scale"].is_meta:  # a buffer that is not in checkpoints and therefore not filled
        for embeddings in (model.text_model.embeddings, model.vision_model.embeddings):
            embeddings.position_ids = torch.arange(embeddings.position_ids.shape[-1])[None]
    return model


def read_original(path: Path) -> dict[str, Tensor]:
    """The state dict in a file of open_clip or HPSv2: safetensors, or torch's format with weights only.

    Raises ValueError for any other format, and for files with Python objects.
    """
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} cannot be read as safetensors: {error}") from None
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not a torch checkpoint, or incomplete")
    try:
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path} contains Python objects, and only weights are read; use the original file, or save its "
            "state dict as .safetensors"
        ) from None
    except RuntimeError as error:
        raise ValueError(
            f"{path} cannot be read as a torch checkpoint: {str(error).splitlines()[0]}"
        ) from None
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else loaded
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} contains no state dict")
    return state


def _blocks(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)})


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more

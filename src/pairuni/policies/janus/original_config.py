"""config.json of the original layout as a ``JanusConfig``, and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import JanusConfig, LlamaConfig
from transformers.models.janus.configuration_janus import JanusVisionConfig, JanusVQVAEConfig

from pairuni.policies.files import reason
from pairuni.policies.janus.tensor_names import MAX_DEPTH

_TOWER_DEFAULTS: dict[str, Any] = {
    "model_name": "siglip_large_patch16_384",
    "image_size": 336,
    "select_layer": -2,
}
"""Defaults of the original's vision tower."""

VQ16: dict[str, Any] = {"ch": 128, "ch_mult": [1, 1, 2, 2, 4], "z_channels": 256, "num_res_blocks": 2}
"""The VQ named VQ-16 in the original code; ``params`` may override each number."""

_VISION_KEYS = {
    "patch_size": "patch_size",
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "mlp_ratio": "mlp_ratio",
}
_VQ_KEYS = {
    "ch": "base_channels",
    "ch_mult": "channel_multiplier",
    "z_channels": "latent_channels",
    "num_res_blocks": "num_res_blocks",
}
"""Keys of the original -> keys of ``transformers``."""

SIGLIP: dict[str, dict[str, int | float]] = {
    name: dict(zip(_VISION_KEYS, sizes, strict=True))
    for name, sizes in {
        "siglip_large_patch16_384": (16, 1024, 24, 16, 4),
        "siglip_so400m_patch14_384": (14, 1152, 27, 16, 3.7362),
        "siglip_so400m_patch14_224": (14, 1152, 27, 16, 3.7362),
    }.items()
}
"""Vision towers of the original code by name; ``params`` may override each number."""

_LANGUAGE_KEYS = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "attention_bias", "mlp_bias"),
    *("head_dim", "tie_word_embeddings", "hidden_act", "attention_dropout"),
)
_LANGUAGE_ALWAYS = _LANGUAGE_KEYS[:7]

_NOT_COMPARED = {
    *("architectures", "dtype", "torch_dtype", "transformers_version", "image_token_id", "use_cache"),
    *("bos_token_id", "eos_token_id", "pad_token_id", "initializer_range", "pretraining_tp"),
    *("dropout", "attention_dropout", "hidden_dropout_rate", "projection_dropout"),
}
"""Settings of a ``JanusConfig`` that the original layout stores elsewhere or that affect no forward pass."""


def config_to_transformers(
    original: Mapping[str, Any], *, image_token_id: int, path: Path = Path("config.json")
) -> JanusConfig:
    """The ``JanusConfig`` of an original config.json; path: its name in errors.

    Raises ValueError where it describes another model or one that ``transformers`` does not support.
    """
    try:
        return _config_to_transformers(original, image_token_id)
    except KeyError as error:
        raise ValueError(f"{path} has no {error.args[0]!r}, which Janus needs; restore the file.") from error
    except _Unsupported as error:
        raise ValueError(f"{path} {error}") from None
    except Exception as error:  # values of any type can stand where sections, names or numbers belong
        raise ValueError(
            f"{path} does not describe a Janus model ({reason(error)}); restore the file."
        ) from error


class _Unsupported(Exception):
    """A setting that ``transformers``' Janus does not support; the text continues the file's name."""


def _config_to_transformers(original: Mapping[str, Any], image_token_id: int) -> JanusConfig:
    vision, head = original["vision_config"]["params"], original["gen_head_config"]["params"]
    aligner, gen_aligner = (_mlp(original, key) for key in ("aligner_config", "gen_aligner_config"))
    tower = _tower(original["vision_config"].get("cls", "CLIPVisionTower"), vision)
    if original["gen_vision_config"]["cls"] != "VQ-16":
        raise _Unsupported(f"names the VQ {original['gen_vision_config']['cls']!r}; known: VQ-16.")
    if head["image_token_embed"] != gen_aligner["n_embed"]:
        raise _Unsupported(
            "gives gen_head and gen_aligner different widths, which transformers does not support."
        )
    language = {"tie_word_embeddings": False, **original["language_config"]}
    if language.get("model_type", "llama") != "llama":
        raise _Unsupported(f"names the language model {language['model_type']!r}; known: llama.")
    codes = {**VQ16, **original["gen_vision_config"]["params"]}
    codes["ch_mult"] = list(codes["ch_mult"])
    dtype = original.get("dtype", original.get("torch_dtype"))
    return JanusConfig(
        text_config=LlamaConfig(**language),
        vision_config=JanusVisionConfig(
            **{key: tower[original_key] for original_key, key in _VISION_KEYS.items()},
            image_size=tower["image_size"],
            projection_dim=aligner["n_embed"],
            depth=aligner["depth"],
            num_image_tokens=(tower["image_size"] // tower["patch_size"]) ** 2,
        ),
        vq_config=JanusVQVAEConfig(
            embed_dim=codes["n_embed"],
            num_embeddings=codes["image_token_size"],
            **{key: codes[original_key] for original_key, key in _VQ_KEYS.items()},
            projection_dim=gen_aligner["n_embed"],
            num_hidden_layers=gen_aligner["depth"],
            image_token_embed_dim=head["n_embed"],
        ),
        image_token_id=image_token_id,
        tie_word_embeddings=language["tie_word_embeddings"],
        architectures=["JanusForConditionalGeneration"],
        **({} if dtype is None else {"dtype": dtype}),
    )


def _tower(cls: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes of the vision tower; ``layers`` is the number that the original builds."""
    params = {**_TOWER_DEFAULTS, **params}
    name = params["model_name"]
    if cls != "CLIPVisionTower" or name not in SIGLIP:
        raise _Unsupported(
            f"names the vision tower {name!r} of {cls}; known: {list(SIGLIP)} of CLIPVisionTower."
        )
    mean, std = params.get("pixel_mean"), params.get("pixel_std")
    if mean is not None and std is not None and (any(mean) or any(one != 1 for one in std)):
        raise _Unsupported(
            "normalises images in the vision tower too (pixel_mean, pixel_std), which transformers does not support."
        )
    if not params.get("ignore_head", True):
        raise _Unsupported(
            "reads the head of the vision tower (ignore_head), which transformers does not support."
        )
    tower = {**SIGLIP[name], **params}
    layers, select = tower["layers"], tower["select_layer"]
    built = min(layers, select if select > 0 else layers + select + 1)
    if built < 1:
        raise _Unsupported(f"selects layer {select} of a vision tower of {layers}.")
    return {**tower, "layers": built}


def _mlp(original: Mapping[str, Any], key: str) -> dict[str, Any]:
    params = original[key]["params"]
    if params["projector_type"] != "mlp_gelu":
        raise _Unsupported(f"gives {key} the type {params['projector_type']!r}; known: mlp_gelu.")
    depth = params.get("depth", 1)
    if not 1 <= depth <= MAX_DEPTH:
        raise _Unsupported(f"gives {key} a depth of {depth}; allowed are 1 to {MAX_DEPTH}.")
    return {**params, "depth": depth}


def config_to_original(config: JanusConfig) -> dict[str, Any]:
    """The original config.json of a ``JanusConfig``, without the sizes that are constants of the original code.

    Raises ValueError naming the settings that the original layout cannot store.
    """
    original = _config_to_original(config)
    lost = _differences(
        config.to_dict(), config_to_transformers(original, image_token_id=config.image_token_id).to_dict()
    )
    if lost:
        raise ValueError(f"The original layout cannot store {', '.join(lost)} of this config.json.")
    return original


def _differences(one: Any, other: Any, name: str = "") -> list[str]:
    """Names and values of ``one`` that differ in ``other``."""
    if isinstance(one, dict) and isinstance(other, dict):
        return [
            found
            for key in one
            if key not in _NOT_COMPARED
            for found in _differences(one[key], other.get(key), f"{name}.{key}".lstrip("."))
        ]
    same = list(one) == list(other) if isinstance(one, tuple | list) and other is not None else one == other
    return [] if same else [f"{name} = {one!r}"]


def _config_to_original(config: JanusConfig) -> dict[str, Any]:
    vision, vq = config.vision_config, config.vq_config
    default_name = next(iter(SIGLIP))
    name = next((name for name, size in SIGLIP.items() if size["width"] == vision.hidden_size), default_name)
    tower = {original: getattr(vision, key) for original, key in _VISION_KEYS.items()}
    codes = {original: getattr(vq, key) for original, key in _VQ_KEYS.items()}
    codes["ch_mult"] = list(codes["ch_mult"])
    dtype = {} if config.dtype is None else {"torch_dtype": str(config.dtype).removeprefix("torch.")}
    return {
        "architectures": ["MultiModalityCausalLM"],
        "model_type": "multi_modality",
        "language_config": {"model_type": "llama", **_language_params(config), **dtype},
        "vision_config": _section(
            "CLIPVisionTower",
            "vision",
            image_size=vision.image_size,
            model_name=name,
            select_feature="same",
            **_selected(tower, SIGLIP[name]),
        ),
        "aligner_config": _projector("aligner", vision.depth, vision.hidden_size, vision.projection_dim),
        "gen_vision_config": _section(
            "VQ-16",
            "gen_vision",
            image_token_size=vq.num_embeddings,
            n_embed=vq.embed_dim,
            **{key: value for key, value in codes.items() if value != VQ16[key]},
        ),
        "gen_aligner_config": _projector(
            "gen_aligner", vq.num_hidden_layers, vq.embed_dim, vq.projection_dim
        ),
        "gen_head_config": _section(
            "vision_head",
            "gen_head",
            image_token_embed=vq.projection_dim,
            image_token_size=vq.num_embeddings,
            n_embed=vq.image_token_embed_dim,
        ),
        **dtype,
    }


def _language_params(config: JanusConfig) -> dict[str, Any]:
    """The settings that differ from Llama's defaults, and those that every original file states."""
    text, default = config.text_config, LlamaConfig()
    rope = text.rope_parameters or {}
    if rope.get("rope_type", "default") != "default":
        raise ValueError(f"The original layout cannot store the rope type {rope['rope_type']!r}.")
    language = {
        key: getattr(text, key)
        for key in _LANGUAGE_KEYS
        if key in _LANGUAGE_ALWAYS or getattr(text, key) != getattr(default, key)
    }
    if text.head_dim * text.num_attention_heads == text.hidden_size:
        language.pop("head_dim", None)
    if rope.get("rope_theta", 10000.0) != 10000.0:
        language["rope_theta"] = rope["rope_theta"]
    if config.tie_word_embeddings:
        language["tie_word_embeddings"] = True
    return language


def _selected(tower: Mapping[str, int | float], named: Mapping[str, int | float]) -> dict[str, int | float]:
    """``select_layer``, and the sizes in which a tower differs from the named one.

    The original code does not read ``layers``; it builds as many layers of a named tower as ``select_layer`` needs.
    """
    sizes = {key: value for key, value in tower.items() if value != named[key]}
    if set(sizes) == {"layers"} and tower["layers"] < named["layers"]:
        return {"select_layer": tower["layers"] - named["layers"] - 1}
    return {"select_layer": -1, **sizes}


def _section(cls: str, model_type: str, **params: Any) -> dict[str, Any]:
    return {"cls": cls, "model_type": model_type, "params": params}


def _projector(model_type: str, depth: int, inputs: int, outputs: int) -> dict[str, Any]:
    return _section(
        "MlpProjector",
        model_type,
        depth=depth,
        input_dim=inputs,
        n_embed=outputs,
        projector_type="mlp_gelu",
    )

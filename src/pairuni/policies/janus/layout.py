"""The two layouts of a Janus checkpoint: ``transformers`` and the original of deepseek-ai.

One table of rename rules serves both directions. ``{n}`` stands for a number, ``{p}`` for weight or bias.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import JanusConfig, LlamaConfig
from transformers.models.janus.configuration_janus import JanusVisionConfig, JanusVQVAEConfig

from pairuni.policies.files import reason

Layout = Literal["transformers", "original"]

MODEL_TYPES: dict[str, Layout] = {"janus": "transformers", "multi_modality": "original"}

_MAX_DEPTH = 8
_TOWER, _SIGLIP = "vision_model.vision_tower", "model.vision_model"
_BLOCK, _LAYER = f"{_TOWER}.blocks.{{n}}", f"{_SIGLIP}.encoder.layers.{{n}}"


def _projector(original: str, transformers: str) -> list[tuple[str, str]]:
    """Linear layers of an MLP: a Sequential with GELUs between them there, fc1 and a list here."""
    deeper = [
        (f"{original}.layers.{2 * depth}.{{p}}", f"{transformers}.hidden_layers.{depth - 1}.{{p}}")
        for depth in range(1, _MAX_DEPTH)
    ]
    return [(f"{original}.layers.0.{{p}}", f"{transformers}.fc1.{{p}}"), *deeper]


def _vq(part: str, blocks: str) -> list[tuple[str, str]]:
    """Encoder or decoder of the VQ; ``{r}`` is the path inside a block."""
    old, new = f"gen_vision_model.{part}", f"model.vqmodel.{part}"
    return [
        (f"{old}.conv_blocks.{{n}}.res.{{r}}", f"{new}.{blocks}.{{n}}.block.{{r}}"),
        (f"{old}.conv_blocks.{{n}}.{{r}}", f"{new}.{blocks}.{{n}}.{{r}}"),
        (f"{old}.mid.0.{{r}}", f"{new}.mid.block_1.{{r}}"),
        (f"{old}.mid.1.{{r}}", f"{new}.mid.attn_1.{{r}}"),
        (f"{old}.mid.2.{{r}}", f"{new}.mid.block_2.{{r}}"),
    ]


RULES: list[tuple[str, str]] = [
    (f"{_TOWER}.pos_embed", f"{_SIGLIP}.embeddings.position_embedding.weight"),
    (f"{_TOWER}.patch_embed.proj.{{p}}", f"{_SIGLIP}.embeddings.patch_embedding.{{p}}"),
    (f"{_TOWER}.norm.{{p}}", f"{_SIGLIP}.post_layernorm.{{p}}"),
    (f"{_BLOCK}.attn.qkv.{{p}}", f"{_LAYER}.self_attn.qkv.{{p}}"),
    (f"{_BLOCK}.attn.proj.{{p}}", f"{_LAYER}.self_attn.projection_layer.{{p}}"),
    (f"{_BLOCK}.norm{{n}}.{{p}}", f"{_LAYER}.layer_norm{{n}}.{{p}}"),
    (f"{_BLOCK}.mlp.fc{{n}}.{{p}}", f"{_LAYER}.mlp.fc{{n}}.{{p}}"),
    *_projector("aligner", "model.aligner"),
    *_vq("encoder", "down"),
    *_vq("decoder", "up"),
    ("gen_vision_model.{r}", "model.vqmodel.{r}"),
    *_projector("gen_aligner", "model.generation_aligner"),
    ("gen_head.output_mlp_projector.{p}", "model.generation_head.proj_out.{p}"),
    ("gen_head.vision_head.{p}", "model.generation_head.vision_head.{p}"),
    ("gen_embed.weight", "model.generation_embeddings.weight"),
    ("language_model.model.{r}", "model.language_model.{r}"),
    ("language_model.lm_head.weight", "lm_head.weight"),
]
"""(original, transformers) name patterns; the first that matches a name applies."""

UNUSED = re.compile(
    r"vision_model\.vision_tower\.attn_pool\..*|gen_vision_model\.quantize\.codebook_used"
    r"|language_model\..*\.rotary_emb\.inv_freq"
)
"""Original tensors that no forward pass reads and that the transformers layout has no place for."""

_PIECES = {"n": r"(\d+)", "p": r"(weight|bias)", "r": r"(.+)"}


def _matcher(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w)\}", pattern)
    return re.compile(
        "".join(_PIECES[part] if place % 2 else re.escape(part) for place, part in enumerate(parts))
    )


def _template(pattern: str) -> str:
    return re.sub(r"\{\w\}", "{}", pattern)


_TO_TRANSFORMERS = [(_matcher(old), _template(new)) for old, new in RULES]
_TO_ORIGINAL = [(_matcher(new), _template(old)) for old, new in RULES]
_QKV = ("q_proj", "k_proj", "v_proj")
_POSITIONS = f"{_TOWER}.pos_embed"


def _rename(name: str, rules: list[tuple[re.Pattern[str], str]]) -> str | None:
    for matcher, template in rules:
        if match := matcher.fullmatch(name):
            return template.format(*match.groups())
    return None


def to_transformers(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Original tensors under their transformers names, and those that have no place there.

    SigLIP's fused qkv is split and its position table [1, N, D] loses the leading axis. Names that no rule
    knows come through unchanged, for the caller to report.
    """
    renamed: dict[str, Tensor] = {}
    unused: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if UNUSED.fullmatch(name):
            unused[name] = tensor
            continue
        target = _rename(name, _TO_TRANSFORMERS) or name
        if ".self_attn.qkv." in target:
            for part, piece in zip(_QKV, tensor.chunk(3, dim=0), strict=True):
                renamed[target.replace(".qkv.", f".{part}.")] = piece.clone()
        else:
            renamed[target] = tensor.squeeze(0) if name == _POSITIONS else tensor
    return renamed, unused


def to_original(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of ``to_transformers``: same values, original names, qkv fused again."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if f".self_attn.{_QKV[0]}." in name and name.startswith(_SIGLIP):
            pieces = [tensors[name.replace(_QKV[0], part)] for part in _QKV]
            name, tensor = name.replace(_QKV[0], "qkv"), torch.cat(pieces, dim=0)
        elif any(f".self_attn.{part}." in name for part in _QKV[1:]) and name.startswith(_SIGLIP):
            continue
        target = _rename(name, _TO_ORIGINAL)
        assert target is not None, f"no rule for {name}"
        renamed[target] = tensor.unsqueeze(0) if target == _POSITIONS else tensor
    return renamed


SIGLIP: dict[str, dict[str, int | float]] = {
    "siglip_large_patch16_384": {
        "patch_size": 16,
        "width": 1024,
        "layers": 24,
        "heads": 16,
        "mlp_ratio": 4,
    },
    "siglip_so400m_patch14_384": {
        "patch_size": 14,
        "width": 1152,
        "layers": 27,
        "heads": 16,
        "mlp_ratio": 3.7362,
    },
}
SIGLIP["siglip_so400m_patch14_224"] = SIGLIP["siglip_so400m_patch14_384"]
"""Vision towers that the original code knows by name; ``params`` may override each number."""

_TOWER_DEFAULTS: dict[str, Any] = {
    "model_name": "siglip_large_patch16_384",
    "image_size": 336,
    "select_layer": -2,
}
"""What the original's vision tower takes where ``params`` leave these out."""

VQ16: dict[str, Any] = {"ch": 128, "ch_mult": [1, 1, 2, 2, 4], "z_channels": 256, "num_res_blocks": 2}
"""The VQ that the original code calls VQ-16; ``params`` may override each number."""

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
"""Settings of a ``JanusConfig`` that the original layout keeps elsewhere or that change no forward pass."""


def config_to_transformers(
    original: Mapping[str, Any], *, image_token_id: int, path: Path = Path("config.json")
) -> JanusConfig:
    """The ``JanusConfig`` of an original config.json, which ``path`` names in messages.

    Raises ValueError where it describes another model or one that ``transformers`` cannot hold.
    """
    try:
        return _config_to_transformers(original, image_token_id)
    except KeyError as error:
        raise ValueError(f"{path} has no {error.args[0]!r}, which Janus needs.") from error
    except _Unlike as error:
        raise ValueError(f"{path} {error}") from None
    except Exception as error:  # values of any type where sections, names or numbers belong
        raise ValueError(f"{path} describes no Janus ({reason(error)}); restore the file.") from error


class _Unlike(Exception):
    """What a config.json says that has no place in ``transformers``' Janus; its text continues the file's name."""


def _config_to_transformers(original: Mapping[str, Any], image_token_id: int) -> JanusConfig:
    vision, head = original["vision_config"]["params"], original["gen_head_config"]["params"]
    aligner, gen_aligner = (_mlp(original, key) for key in ("aligner_config", "gen_aligner_config"))
    tower = _tower(original["vision_config"].get("cls", "CLIPVisionTower"), vision)
    if original["gen_vision_config"]["cls"] != "VQ-16":
        raise _Unlike(f"names the VQ {original['gen_vision_config']['cls']!r}; known: VQ-16.")
    if head["image_token_embed"] != gen_aligner["n_embed"]:
        raise _Unlike("gives gen_head and gen_aligner different widths, which transformers cannot hold.")
    language = {"tie_word_embeddings": False, **original["language_config"]}
    if language.get("model_type", "llama") != "llama":
        raise _Unlike(f"names the language model {language['model_type']!r}; known: llama.")
    codes = {**VQ16, **original["gen_vision_config"]["params"]}
    dtype = original.get("dtype", original.get("torch_dtype"))
    return JanusConfig(
        text_config=LlamaConfig(**language),
        vision_config=JanusVisionConfig(
            hidden_size=tower["width"],
            num_hidden_layers=tower["layers"],
            num_attention_heads=tower["heads"],
            image_size=tower["image_size"],
            patch_size=tower["patch_size"],
            mlp_ratio=tower["mlp_ratio"],
            projection_dim=aligner["n_embed"],
            depth=aligner["depth"],
            num_image_tokens=(tower["image_size"] // tower["patch_size"]) ** 2,
        ),
        vq_config=JanusVQVAEConfig(
            embed_dim=codes["n_embed"],
            num_embeddings=codes["image_token_size"],
            latent_channels=codes["z_channels"],
            base_channels=codes["ch"],
            channel_multiplier=list(codes["ch_mult"]),
            num_res_blocks=codes["num_res_blocks"],
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
    """Sizes of the vision tower, ``layers`` as many as the original builds."""
    params = {**_TOWER_DEFAULTS, **params}
    name = params["model_name"]
    if cls != "CLIPVisionTower" or name not in SIGLIP:
        raise _Unlike(f"names the vision tower {name!r} of {cls}; known: {list(SIGLIP)} of CLIPVisionTower.")
    mean, std = params.get("pixel_mean"), params.get("pixel_std")
    if mean is not None and std is not None and (any(mean) or any(one != 1 for one in std)):
        raise _Unlike(
            "normalises images in the vision tower too (pixel_mean, pixel_std), which transformers cannot hold."
        )
    if not params.get("ignore_head", True):
        raise _Unlike("reads the head of the vision tower (ignore_head), which transformers does not have.")
    tower = {**SIGLIP[name], **params}
    layers, select = tower["layers"], tower["select_layer"]
    built = min(layers, select if select > 0 else layers + select + 1)
    if built < 1:
        raise _Unlike(f"selects layer {select} of a vision tower of {layers}.")
    return {**tower, "layers": built}


def _mlp(original: Mapping[str, Any], key: str) -> dict[str, Any]:
    params = original[key]["params"]
    if params["projector_type"] != "mlp_gelu":
        raise _Unlike(f"gives {key} the type {params['projector_type']!r}; known: mlp_gelu.")
    depth = params.get("depth", 1)
    if not 1 <= depth <= _MAX_DEPTH:
        raise _Unlike(f"gives {key} a depth of {depth}; allowed are 1 to {_MAX_DEPTH}.")
    return {**params, "depth": depth}


def config_to_original(config: JanusConfig) -> dict[str, Any]:
    """The original config.json of a ``JanusConfig``; sizes that the original code hard-wires are left out.

    Raises ValueError naming the settings that the original layout has no place for.
    """
    original = _config_to_original(config)
    lost = _differences(
        config.to_dict(), config_to_transformers(original, image_token_id=config.image_token_id).to_dict()
    )
    if lost:
        raise ValueError(f"The original layout has no place for {', '.join(lost)} of this config.json.")
    return original


def _differences(one: Any, other: Any, name: str = "") -> list[str]:
    """Names and values of ``one`` that ``other`` does not repeat."""
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
    text, vision, vq = config.text_config, config.vision_config, config.vq_config
    rope = text.rope_parameters or {}
    if rope.get("rope_type", "default") != "default":
        raise ValueError(f"The original layout has no place for the rope type {rope['rope_type']!r}.")
    default = LlamaConfig()
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
    name = next(
        (name for name, size in SIGLIP.items() if size["width"] == vision.hidden_size), next(iter(SIGLIP))
    )
    tower: dict[str, int | float] = {
        "patch_size": vision.patch_size,
        "width": vision.hidden_size,
        "layers": vision.num_hidden_layers,
        "heads": vision.num_attention_heads,
        "mlp_ratio": vision.mlp_ratio,
    }
    codes = {
        "ch": vq.base_channels,
        "ch_mult": list(vq.channel_multiplier),
        "z_channels": vq.latent_channels,
        "num_res_blocks": vq.num_res_blocks,
    }
    dtype = {} if config.dtype is None else {"torch_dtype": str(config.dtype).removeprefix("torch.")}
    return {
        "architectures": ["MultiModalityCausalLM"],
        "model_type": "multi_modality",
        "language_config": {"model_type": "llama", **language, **dtype},
        "vision_config": _section(
            "CLIPVisionTower",
            "vision",
            {
                "image_size": vision.image_size,
                "model_name": name,
                "select_feature": "same",
                **_selected(tower, SIGLIP[name]),
            },
        ),
        "aligner_config": _section(
            "MlpProjector", "aligner", _mlp_params(vision.depth, vision.hidden_size, vision)
        ),
        "gen_vision_config": _section(
            "VQ-16",
            "gen_vision",
            {
                "image_token_size": vq.num_embeddings,
                "n_embed": vq.embed_dim,
                **{key: value for key, value in codes.items() if value != VQ16[key]},
            },
        ),
        "gen_aligner_config": _section(
            "MlpProjector", "gen_aligner", _mlp_params(vq.num_hidden_layers, vq.embed_dim, vq)
        ),
        "gen_head_config": _section(
            "vision_head",
            "gen_head",
            {
                "image_token_embed": vq.projection_dim,
                "image_token_size": vq.num_embeddings,
                "n_embed": vq.image_token_embed_dim,
            },
        ),
        **dtype,
    }


def _selected(tower: Mapping[str, int | float], named: Mapping[str, int | float]) -> dict[str, int | float]:
    """``select_layer``, and the sizes in which a tower differs from the one of its name.

    The original code reads no ``layers``: of a named tower that is cut short it builds those that
    ``select_layer`` asks for.
    """
    sizes = {key: value for key, value in tower.items() if value != named[key]}
    if set(sizes) == {"layers"} and tower["layers"] < named["layers"]:
        return {"select_layer": tower["layers"] - named["layers"] - 1}
    return {"select_layer": -1, **sizes}


def _section(cls: str, model_type: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"cls": cls, "model_type": model_type, "params": params}


def _mlp_params(depth: int, width: int, config: JanusVisionConfig | JanusVQVAEConfig) -> dict[str, Any]:
    return {
        "depth": depth,
        "input_dim": width,
        "n_embed": config.projection_dim,
        "projector_type": "mlp_gelu",
    }

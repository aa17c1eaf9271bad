"""Tensor names of the two layouts of a Janus checkpoint: ``transformers`` and the original of deepseek-ai.

One table of rules serves both directions. In a pattern ``{n}`` stands for a number, ``{p}`` for weight or bias, ``{r}``
for anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

MAX_DEPTH = 8
"""Linear layers of the deepest projector."""
_TOWER, _SIGLIP = "vision_model.vision_tower", "model.vision_model"
_BLOCK, _LAYER = f"{_TOWER}.blocks.{{n}}", f"{_SIGLIP}.encoder.layers.{{n}}"


def _projector(original: str, transformers: str) -> list[tuple[str, str]]:
    """Linear layers of an MLP: the original has a Sequential with GELUs in between, transformers fc1 and a list."""
    deeper = [
        (f"{original}.layers.{2 * depth}.{{p}}", f"{transformers}.hidden_layers.{depth - 1}.{{p}}")
        for depth in range(1, MAX_DEPTH)
    ]
    return [(f"{original}.layers.0.{{p}}", f"{transformers}.fc1.{{p}}"), *deeper]


def _vq(part: str, blocks: str) -> list[tuple[str, str]]:
    """Encoder or decoder of the VQ."""
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
"""(original, transformers) name patterns; the first match applies."""

UNUSED = re.compile(
    r"vision_model\.vision_tower\.attn_pool\..*|gen_vision_model\.quantize\.codebook_used"
    r"|language_model\..*\.rotary_emb\.inv_freq"
)
"""Original tensors that no forward pass reads and that the transformers layout does not have."""

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
    """Original tensors under their transformers names, and the unused ones.

    SigLIP's fused qkv is split, and its position table [1, N, D] loses the leading axis. Names without a rule stay
    unchanged, for the caller to report.
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

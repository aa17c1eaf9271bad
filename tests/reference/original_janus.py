"""The original deepseek-ai layout: configurations of Janus-Pro, and the name and shape of every tensor."""

from __future__ import annotations

from typing import Any

Shapes = dict[str, tuple[int, ...]]


def _part(cls: str, model_type: str, **params: Any) -> dict[str, Any]:
    return {"cls": cls, "model_type": model_type, "params": params}


def _janus_pro(width: int, language: dict[str, Any]) -> dict[str, Any]:
    return {
        "architectures": ["MultiModalityCausalLM"],
        "model_type": "multi_modality",
        "torch_dtype": "bfloat16",
        "vision_config": _part(
            *("CLIPVisionTower", "vision"),
            image_size=384,
            model_name="siglip_large_patch16_384",
            select_feature="same",
            select_layer=-1,
        ),
        "aligner_config": _part(
            *("MlpProjector", "aligner"), depth=2, input_dim=1024, n_embed=width, projector_type="mlp_gelu"
        ),
        "gen_vision_config": _part("VQ-16", "gen_vision", image_token_size=16384, n_embed=8),
        "gen_aligner_config": _part(
            *("MlpProjector", "gen_aligner"), depth=2, input_dim=8, n_embed=width, projector_type="mlp_gelu"
        ),
        "gen_head_config": _part(
            *("vision_head", "gen_head"), image_token_embed=width, image_token_size=16384, n_embed=width
        ),
        "language_config": {
            "model_type": "llama",
            "vocab_size": 102400,
            "max_position_embeddings": 16384,
            "torch_dtype": "bfloat16",
            **language,
        },
    }


JANUS_PRO_1B = _janus_pro(
    2048,
    {
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
    },
)
JANUS_PRO_7B = _janus_pro(4096, {"num_hidden_layers": 30})
"""The released 7B config omits Llama's defaults: 4096, 11008, 32 heads."""


def small_config(vocabulary: int) -> dict[str, Any]:
    """The same architecture at toy sizes; the sizes that the original code hard-wires are params here."""
    config = _janus_pro(
        32,
        {
            "vocab_size": vocabulary,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "max_position_embeddings": 512,
        },
    )
    config["vision_config"]["params"] |= {
        "image_size": 32,
        "patch_size": 8,
        "width": 24,
        "layers": 2,
        "heads": 2,
        "mlp_ratio": 2,
    }
    config["aligner_config"]["params"]["input_dim"] = 24
    config["gen_vision_config"]["params"] |= {
        "image_token_size": 24,
        "ch": 32,
        "ch_mult": [1, 1, 2, 1],
        "z_channels": 32,
        "num_res_blocks": 1,
    }
    config["gen_head_config"]["params"]["image_token_size"] = 24
    return config


def _linear(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _conv(name: str, inputs: int, outputs: int, kernel: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs, kernel, kernel), f"{name}.bias": (outputs,)}


def _residual(name: str, inputs: int, outputs: int) -> Shapes:
    shapes = {**_norm(f"{name}.norm1", inputs), **_conv(f"{name}.conv1", inputs, outputs, 3)}
    shapes |= {**_norm(f"{name}.norm2", outputs), **_conv(f"{name}.conv2", outputs, outputs, 3)}
    if inputs != outputs:
        shapes |= _conv(f"{name}.nin_shortcut", inputs, outputs, 1)
    return shapes


def _attention(name: str, width: int) -> Shapes:
    shapes = _norm(f"{name}.norm", width)
    for part in ("q", "k", "v", "proj_out"):
        shapes |= _conv(f"{name}.{part}", width, width, 1)
    return shapes


def _middle(name: str, width: int) -> Shapes:
    return {
        **_residual(f"{name}.mid.0", width, width),
        **_attention(f"{name}.mid.1", width),
        **_residual(f"{name}.mid.2", width, width),
    }


def original_shapes(config: dict[str, Any]) -> Shapes:
    """Every tensor that the original code's model has under this configuration, unused ones included."""
    vision = {
        "patch_size": 16,
        "width": 1024,
        "layers": 24,
        "mlp_ratio": 4,
        **config["vision_config"]["params"],
    }
    codes = {
        "ch": 128,
        "ch_mult": [1, 1, 2, 2, 4],
        "z_channels": 256,
        "num_res_blocks": 2,
        **config["gen_vision_config"]["params"],
    }
    language = {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        **config["language_config"],
    }
    return {**_tower(vision), **_vq(codes), **_heads(config), **_language(language)}


def _tower(vision: dict[str, Any]) -> Shapes:
    root, width, patch = "vision_model.vision_tower", vision["width"], vision["patch_size"]
    inner = int(width * vision["mlp_ratio"])
    shapes: Shapes = {f"{root}.pos_embed": (1, (vision["image_size"] // patch) ** 2, width)}
    shapes |= _conv(f"{root}.patch_embed.proj", 3, width, patch)
    for index in range(vision["layers"]):
        block = f"{root}.blocks.{index}"
        shapes |= {**_norm(f"{block}.norm1", width), **_norm(f"{block}.norm2", width)}
        shapes |= {
            **_linear(f"{block}.attn.qkv", width, 3 * width),
            **_linear(f"{block}.attn.proj", width, width),
        }
        shapes |= {**_linear(f"{block}.mlp.fc1", width, inner), **_linear(f"{block}.mlp.fc2", inner, width)}
    shapes |= _norm(f"{root}.norm", width)
    pool = f"{root}.attn_pool"
    shapes[f"{pool}.latent"] = (1, 1, width)
    shapes |= {**_linear(f"{pool}.q", width, width), **_linear(f"{pool}.kv", width, 2 * width)}
    shapes |= {**_linear(f"{pool}.proj", width, width), **_norm(f"{pool}.norm", width)}
    shapes |= {**_linear(f"{pool}.mlp.fc1", width, inner), **_linear(f"{pool}.mlp.fc2", inner, width)}
    return shapes


def _vq(codes: dict[str, Any]) -> Shapes:
    root, width, depth = "gen_vision_model", codes["ch"], codes["num_res_blocks"]
    multiples, latent = codes["ch_mult"], codes["z_channels"]
    last = len(multiples) - 1
    shapes = _conv(f"{root}.encoder.conv_in", 3, width, 3)
    now = width
    for level, multiple in enumerate(multiples):
        block = f"{root}.encoder.conv_blocks.{level}"
        for index in range(depth):
            shapes |= _residual(f"{block}.res.{index}", now, width * multiple)
            now = width * multiple
            if level == last:
                shapes |= _attention(f"{block}.attn.{index}", now)
        if level != last:
            shapes |= _conv(f"{block}.downsample.conv", now, now, 3)
    shapes |= {**_middle(f"{root}.encoder", now), **_norm(f"{root}.encoder.norm_out", now)}
    shapes |= _conv(f"{root}.encoder.conv_out", now, latent, 3)
    shapes |= {**_conv(f"{root}.decoder.conv_in", latent, now, 3), **_middle(f"{root}.decoder", now)}
    for place, level in enumerate(reversed(range(len(multiples)))):
        block = f"{root}.decoder.conv_blocks.{place}"
        for index in range(depth + 1):
            shapes |= _residual(f"{block}.res.{index}", now, width * multiples[level])
            now = width * multiples[level]
            if level == last:
                shapes |= _attention(f"{block}.attn.{index}", now)
        if level != 0:
            shapes |= _conv(f"{block}.upsample.conv", now, now, 3)
    shapes |= {**_norm(f"{root}.decoder.norm_out", now), **_conv(f"{root}.decoder.conv_out", now, 3, 3)}
    shapes[f"{root}.quantize.embedding.weight"] = (codes["image_token_size"], codes["n_embed"])
    shapes[f"{root}.quantize.codebook_used"] = (65536,)
    shapes |= _conv(f"{root}.quant_conv", latent, codes["n_embed"], 1)
    shapes |= _conv(f"{root}.post_quant_conv", codes["n_embed"], latent, 1)
    return shapes


def _heads(config: dict[str, Any]) -> Shapes:
    shapes: Shapes = {}
    for name in ("aligner", "gen_aligner"):
        params = config[f"{name}_config"]["params"]
        shapes |= _linear(f"{name}.layers.0", params["input_dim"], params["n_embed"])
        for layer in range(1, params["depth"]):
            shapes |= _linear(f"{name}.layers.{2 * layer}", params["n_embed"], params["n_embed"])
    head, codes = config["gen_head_config"]["params"], config["gen_vision_config"]["params"]
    shapes |= _linear("gen_head.output_mlp_projector", head["n_embed"], head["image_token_embed"])
    shapes |= _linear("gen_head.vision_head", head["image_token_embed"], head["image_token_size"])
    shapes["gen_embed.weight"] = (codes["image_token_size"], codes["n_embed"])
    return shapes


def _language(language: dict[str, Any]) -> Shapes:
    width, inner = language["hidden_size"], language["intermediate_size"]
    shapes: Shapes = {"language_model.model.embed_tokens.weight": (language["vocab_size"], width)}
    for index in range(language["num_hidden_layers"]):
        layer = f"language_model.model.layers.{index}"
        for part in ("q_proj", "k_proj", "v_proj", "o_proj"):
            shapes[f"{layer}.self_attn.{part}.weight"] = (width, width)
        shapes[f"{layer}.mlp.gate_proj.weight"] = (inner, width)
        shapes[f"{layer}.mlp.up_proj.weight"] = (inner, width)
        shapes[f"{layer}.mlp.down_proj.weight"] = (width, inner)
        shapes[f"{layer}.input_layernorm.weight"] = (width,)
        shapes[f"{layer}.post_attention_layernorm.weight"] = (width,)
    shapes["language_model.model.norm.weight"] = (width,)
    shapes["language_model.lm_head.weight"] = (language["vocab_size"], width)
    return shapes

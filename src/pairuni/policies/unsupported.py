"""Models that are named or stored like Janus but are not supported, so that the error can name them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_NAMES = [
    (r"janus-?flow", "JanusFlow"),
    (r"deepseek-?vl-?(v?2)", "DeepSeek-VL2"),
    (r"deepseek-?vl", "DeepSeek-VL"),
]
_GENERATION = ("gen_vision_config", "gen_aligner_config", "gen_head_config")

REASONS = {
    "JanusFlow": "it generates images by rectified flow instead of image tokens",
    "DeepSeek-VL": "it does not generate images",
    "DeepSeek-VL2": "it does not generate images",
}


def unsupported_by_config(config: Mapping[str, Any]) -> str | None:
    """The unsupported model that a config.json describes, if it does.

    JanusFlow and DeepSeek-VL share the model_type ``multi_modality`` with Janus and differ in their parts.
    """
    model_type = str(config.get("model_type"))
    if model_type == "multi_modality":
        if "vision_und_enc_config" in config or "vision_gen_dec_config" in config:
            return "JanusFlow"
        if "aligner_config" in config and not any(key in config for key in _GENERATION):
            return "DeepSeek-VL"
        return None
    return unsupported_by_name(model_type.replace("_", "-"))


def unsupported_by_name(name: str) -> str | None:
    """The unsupported model that a hub name or a model_type stands for, if it does."""
    return next((known for pattern, known in _NAMES if re.search(pattern, name.lower())), None)


def refusal(where: object, model: str) -> str:
    """The error for an unsupported model; where: the file or name that identifies it."""
    return f"{where} is {model}, which cannot be trained here: {REASONS[model]}; use Janus or Janus-Pro."

"""Models that are named or stored like Janus and are none, so that a refusal can call them by their names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_NAMES = [
    (r"janus-?flow", "JanusFlow"),
    (r"deepseek-?vl-?(v?2)", "DeepSeek-VL2"),
    (r"deepseek-?vl", "DeepSeek-VL"),
]
_DRAWINGS = ("gen_vision_config", "gen_aligner_config", "gen_head_config")

REASONS = {
    "JanusFlow": "it draws by rectified flow instead of image tokens",
    "DeepSeek-VL": "it draws no images",
    "DeepSeek-VL2": "it draws no images",
}


def relative_by_config(config: Mapping[str, Any]) -> str | None:
    """The model that a config.json describes, where it is a relative of Janus.

    JanusFlow and DeepSeek-VL share the model_type ``multi_modality`` with Janus and differ in their parts.
    """
    model_type = str(config.get("model_type"))
    if model_type == "multi_modality":
        if "vision_und_enc_config" in config or "vision_gen_dec_config" in config:
            return "JanusFlow"
        if "aligner_config" in config and not any(key in config for key in _DRAWINGS):
            return "DeepSeek-VL"
        return None
    return relative_by_name(model_type.replace("_", "-"))


def relative_by_name(name: str) -> str | None:
    """The model that a hub name or a model_type stands for, where it is a relative of Janus."""
    return next((known for pattern, known in _NAMES if re.search(pattern, name.lower())), None)


def refusal(where: object, model: str) -> str:
    """One sentence that refuses a relative; where: the file or name that says which model it is."""
    return f"{where} is {model}, which cannot be trained here: {REASONS[model]}; use Janus or Janus-Pro."

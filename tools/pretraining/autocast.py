"""The precision of pretraining on a CPU."""

from __future__ import annotations

import torch


def low_precision() -> torch.autocast:
    """bfloat16 where the processor has matrix units for it; elsewhere float32, which is faster there."""
    return torch.autocast("cpu", torch.bfloat16, enabled=bool(torch.cpu.get_capabilities().get("amx_bf16")))

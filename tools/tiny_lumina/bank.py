"""Training images for the language model, encoded once by the frozen image tokenizer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tools.pretraining.bank import Bank, rendered, sample_scenes
from tools.pretraining.schedule import Report


@torch.no_grad()
def fill_bank(vq: Any, *, size: int, seed: int, report: Report, batch: int = 250) -> Bank:
    """Render ``size`` training images and encode them to codes [4, 4]."""
    rng = np.random.default_rng(seed)
    scenes, requests = sample_scenes(rng, size)
    codes = []
    for start, pixel_values in rendered(scenes, rng, batch):
        latents = vq.encode((pixel_values + 1) / 2).latents
        codes.append(vq.quantize(latents)[2][2].view(len(latents), *latents.shape[2:]))
        report("bank", start, size, {})
    return Bank(scenes, requests, torch.cat(codes))

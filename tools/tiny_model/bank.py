"""Training images for the language model, encoded once by the frozen tower and tokenizer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import JanusForConditionalGeneration

from tools.pretraining import bank
from tools.pretraining.bank import rendered, sample_scenes
from tools.pretraining.schedule import Report
from tools.tiny_model.vq import quantise


@dataclass(frozen=True, eq=False)
class Bank(bank.Bank):
    """N images. features: [N, patches, width] of the tower; codes: [N, IMAGE_TOKENS] of the tokenizer."""

    features: Tensor


@torch.no_grad()
def fill_bank(
    model: JanusForConditionalGeneration, *, size: int, seed: int, report: Report, batch: int = 250
) -> Bank:
    """Render ``size`` training images and encode them with the tower and the image tokenizer."""
    rng = np.random.default_rng(seed)
    scenes, requests = sample_scenes(rng, size)
    features, codes = [], []
    for start, pixel_values in rendered(scenes, rng, batch):
        features.append(model.model.vision_model(pixel_values).last_hidden_state)
        codes.append(quantise(model.model.vqmodel, pixel_values)[2].flatten(1))
        report("bank", start, size, {})
    return Bank(scenes, requests, torch.cat(codes), torch.cat(features))

"""Training images for the language model, encoded once by the frozen tower and tokenizer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import JanusForConditionalGeneration

from pairuni.digits.language import Request, caption, parse
from pairuni.digits.prompts import PROMPT_KINDS, random_request, scene_for
from pairuni.digits.scans import varied_scans
from pairuni.digits.scenes import Scene, random_scene
from tools.tiny_model.data import VARIANTS, pixel_values_of
from tools.tiny_model.schedule import Report
from tools.tiny_model.vq import quantise


@dataclass(frozen=True)
class Bank:
    """N images. features: [N, patches, width] of the tower; codes: [N, IMAGE_TOKENS] of the tokenizer."""

    scenes: list[Scene]
    requests: list[Request]
    features: Tensor
    codes: Tensor

    def with_things(self, most: int) -> np.ndarray:
        """Indices of the images with at most ``most`` things."""
        return np.flatnonzero([len(scene.things) <= most for scene in self.scenes])


def sample_scenes(rng: np.random.Generator, size: int) -> tuple[list[Scene], list[Request]]:
    """Scenes and their requests: half for prompts of the six kinds, half for captions of random scenes."""
    scenes, requests = [], []
    for row in range(size):
        if row % 2:
            request = random_request(rng, PROMPT_KINDS[rng.integers(len(PROMPT_KINDS))], "train")
            scenes.append(scene_for(request, rng, "train"))
            requests.append(request)
        else:
            scenes.append(random_scene(rng, "train"))
            requests.append(parse(caption(scenes[-1])))
    return scenes, requests


@torch.no_grad()
def fill_bank(
    model: JanusForConditionalGeneration, *, size: int, seed: int, report: Report, batch: int = 250
) -> Bank:
    """Render ``size`` training images and encode them with the tower and the image tokenizer."""
    rng = np.random.default_rng(seed)
    scenes, requests = sample_scenes(rng, size)
    scans = varied_scans("train", VARIANTS)
    features, codes = [], []
    for start in range(0, size, batch):
        pixel_values = pixel_values_of(scenes[start : start + batch], rng, scans)
        features.append(model.model.vision_model(pixel_values).last_hidden_state)
        codes.append(quantise(model.model.vqmodel, pixel_values)[2].flatten(1))
        report("bank", start, size, {})
    return Bank(scenes, requests, torch.cat(features), torch.cat(codes))

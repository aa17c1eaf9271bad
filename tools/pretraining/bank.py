"""Training images for a language model, encoded once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from pairuni.digits.language import Request, caption, parse
from pairuni.digits.prompts import PROMPT_KINDS, random_request, scene_for
from pairuni.digits.scans import varied_scans
from pairuni.digits.scenes import Scene, random_scene
from tools.pretraining.data import VARIANTS, pixel_values_of


@dataclass(frozen=True, eq=False)
class Bank:
    """N images. codes: [N, ...] of the image tokenizer."""

    scenes: list[Scene]
    requests: list[Request]
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


def rendered(scenes: list[Scene], rng: np.random.Generator, batch: int) -> Iterator[tuple[int, Tensor]]:
    """The number of the first scene of each batch, and the batch's pixel values."""
    scans = varied_scans("train", VARIANTS)
    for start in range(0, len(scenes), batch):
        yield start, pixel_values_of(scenes[start : start + batch], rng, scans)

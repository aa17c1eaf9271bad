"""What the tiny model is pretrained on: training scenes drawn with training scans, and words about them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from pairuni.digits.scans import Scans, varied_scans
from pairuni.digits.scenes import Scene, random_scene, render

VARIANTS = 6
"""Varied copies of each training scan that pretraining draws from."""


def pictures(scenes: list[Scene], rng: np.random.Generator, scans: Scans) -> Tensor:
    """The scenes as pixel values [N, 3, SIZE, SIZE] in [-1, 1], as the processor makes them."""
    rendered = np.stack([render(scene, rng, scans) for scene in scenes])
    return torch.from_numpy(rendered).permute(0, 3, 1, 2).float() / 127.5 - 1


def scene_batches(
    rng: np.random.Generator, batch: int, counts: tuple[int, ...]
) -> Iterator[tuple[list[Scene], Tensor]]:
    """Endless batches of training scenes and their images."""
    scans = varied_scans("train", VARIANTS)
    while True:
        scenes = [random_scene(rng, "train", counts) for _ in range(batch)]
        yield scenes, pictures(scenes, rng, scans)

"""Pretraining images of the tiny model: training scenes rendered with training scans."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pairuni.digits.scans import Scans, varied_scans
from pairuni.digits.scenes import Scene, random_scene, render

VARIANTS = 6
"""Augmented copies of each training scan."""


def pixel_values_of(scenes: list[Scene], rng: np.random.Generator, scans: Scans) -> Tensor:
    """The rendered scenes as pixel values [N, 3, SIZE, SIZE] in [-1, 1], as from the processor."""
    return as_pixel_values(np.stack([render(scene, rng, scans) for scene in scenes]))


def as_pixel_values(images: NDArray[np.uint8]) -> Tensor:
    """Images [N, H, W, 3] as pixel values [N, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def scene_batches(
    rng: np.random.Generator, batch: int, counts: tuple[int, ...]
) -> Iterator[tuple[list[Scene], Tensor]]:
    """An endless iterator of batches of training scenes and their pixel values."""
    scans = varied_scans("train", VARIANTS)
    while True:
        scenes = [random_scene(rng, "train", counts) for _ in range(batch)]
        yield scenes, pixel_values_of(scenes, rng, scans)

"""What the tiny model is pretrained on: training scenes drawn with training scans, and words about them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from pairuni.digits.scans import Scans, load_scans
from pairuni.digits.scenes import Scene, random_scene, render


@cache
def varied_scans(variants: int = 6, seed: int = 0) -> Scans:
    """The training scans, each also slightly turned, sheared and stretched, for want of more handwriting."""
    scans, rng = load_scans("train"), np.random.default_rng(seed)
    glyphs = np.concatenate([scans.glyphs, *(_vary(scans.glyphs, rng) for _ in range(variants))])
    return Scans(glyphs, np.tile(scans.digits, variants + 1), np.tile(scans.ids, variants + 1))


def _vary(glyphs: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """One affine variation of each of [N, H, W] glyphs."""
    centre = (np.asarray(glyphs.shape[1:]) - 1) / 2
    varied = []
    for glyph in glyphs:
        turn, shear = rng.normal(0, 0.12), rng.normal(0, 0.12)
        stretch = rng.uniform(0.92, 1.1, size=2)
        matrix = (
            np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn) + shear, np.cos(turn)]]) / stretch[:, None]
        )
        moved = ndimage.affine_transform(glyph, matrix, centre - matrix @ centre, order=1)
        varied.append(np.clip(moved, 0, 1).astype(np.float32))
    return np.stack(varied)


def pictures(scenes: list[Scene], rng: np.random.Generator, scans: Scans) -> Tensor:
    """The scenes as pixel values [N, 3, SIZE, SIZE] in [-1, 1], as the processor makes them."""
    rendered = np.stack([render(scene, rng, scans) for scene in scenes])
    return torch.from_numpy(rendered).permute(0, 3, 1, 2).float() / 127.5 - 1


def scene_batches(
    rng: np.random.Generator, batch: int, counts: tuple[int, ...]
) -> Iterator[tuple[list[Scene], Tensor]]:
    """Endless batches of training scenes and their pictures."""
    scans = varied_scans()
    while True:
        scenes = [random_scene(rng, "train", counts) for _ in range(batch)]
        yield scenes, pictures(scenes, rng, scans)

"""The 1,797 handwritten digits that scikit-learn ships, split into groups.

Held-out scans are only used for evaluation images. The training scans have two disjoint halves: the policy learns from
both, the reward detector from the first and the evaluation detector from the second.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from sklearn.datasets import load_digits

ScanGroup = Literal["train", "reward", "evaluation", "held-out"]

GLYPH = 13
"""Height and width in pixels of an enlarged scan."""

_SPLIT_SEED = 2510_25682
_HELD_OUT = 397


@dataclass(frozen=True)
class Scans:
    """One group. glyphs: [N, GLYPH, GLYPH] ink in [0, 1]; digits: [N]; ids: [N] rows of the source data."""

    glyphs: NDArray[np.float32]
    digits: NDArray[np.int64]
    ids: NDArray[np.int64]

    def of_digit(self, digit: int) -> NDArray[np.int64]:
        """Indices of this group's scans of one digit."""
        return np.flatnonzero(self.digits == digit)


@cache
def _source() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """All scans enlarged to [1797, GLYPH, GLYPH], and their digits."""
    data = load_digits()
    glyphs = [
        np.asarray(Image.fromarray(scan.astype(np.float32)).resize((GLYPH, GLYPH), Image.Resampling.BICUBIC))
        for scan in data.images
    ]
    return np.clip(np.stack(glyphs) / 16.0, 0.0, 1.0).astype(np.float32), data.target.astype(np.int64)


@cache
def load_scans(group: ScanGroup) -> Scans:
    """The scans of ``group``; "train" is "reward" and "evaluation" together."""
    glyphs, digits = _source()
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(digits))
    held_out, train = order[:_HELD_OUT], order[_HELD_OUT:]
    ids = {
        "held-out": held_out,
        "train": train,
        "reward": train[: len(train) // 2],
        "evaluation": train[len(train) // 2 :],
    }[group]
    ids = np.sort(ids)
    return Scans(glyphs[ids], digits[ids], ids.astype(np.int64))


@cache
def varied_scans(group: ScanGroup, variants: int, seed: int = 0) -> Scans:
    """A group's scans and ``variants`` copies of each, slightly rotated, sheared and stretched."""
    scans, rng = load_scans(group), np.random.default_rng(seed)
    glyphs = np.concatenate([scans.glyphs, *(_vary(scans.glyphs, rng) for _ in range(variants))])
    return Scans(glyphs, np.tile(scans.digits, variants + 1), np.tile(scans.ids, variants + 1))


def _vary(glyphs: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """One random affine transformation of each of [N, H, W] glyphs."""
    centre = (np.asarray(glyphs.shape[1:]) - 1) / 2
    varied = []
    for glyph in glyphs:
        turn, shear = rng.normal(0, 0.12), rng.normal(0, 0.12)
        stretch = rng.uniform(0.92, 1.1, size=2)
        matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn) + shear, np.cos(turn)]])
        matrix /= stretch[:, None]
        moved = ndimage.affine_transform(glyph, matrix, centre - matrix @ centre, order=1)
        varied.append(np.clip(moved, 0, 1).astype(np.float32))
    return np.stack(varied)

"""What detectors and encoders measure in an image of the world: ink in its places, strokes, colours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from pairuni.digits.scenes import CELL, PLACES, SIZE

ImageLike = Image.Image | NDArray[np.uint8]

_FAINT = 0.2
"""Ink below this share of full brightness is an artefact of the image tokenizer, not a stroke."""
_SPECK = 6.0
"""A place with less ink (in full pixels) than this is empty; every scan has more."""


class Inked(NamedTuple):
    """A place with ink. cell: [CELL, CELL, 3] pixels in [0, 1]; ink: [CELL, CELL], the brightest channel or 0."""

    place: str
    cell: NDArray[np.float32]
    ink: NDArray[np.float32]

    @property
    def colour(self) -> NDArray[np.float32]:
        """The mean colour of the ink, [3], of unit length."""
        mean: NDArray[np.float32] = (self.cell * self.ink[..., None]).sum(axis=(0, 1))
        return mean / np.linalg.norm(mean)


def as_pixels(image: ImageLike) -> NDArray[np.float32]:
    """[SIZE, SIZE, 3] in [0, 1]. Raises ValueError for another size."""
    pixels = np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image)
    if pixels.shape != (SIZE, SIZE, 3):
        raise ValueError(f"an image of the digits world has {SIZE}x{SIZE} pixels, not {pixels.shape[:2]}")
    return pixels.astype(np.float32) / 255.0


def inked_places(pixels: NDArray[np.float32]) -> Iterator[Inked]:
    """The places of [SIZE, SIZE, 3] pixels that are not empty, in reading order."""
    for place, (row, column) in PLACES.items():
        cell = pixels[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL]
        ink = cell.max(axis=-1)
        ink = np.where(ink < _FAINT, 0.0, ink).astype(np.float32)
        if ink.sum() >= _SPECK:
            yield Inked(place, cell, ink)


def ink_square(ink: NDArray[np.float32]) -> NDArray[np.float32]:
    """The ink's bounding box, padded to a square and enlarged to [CELL, CELL], brightest 1."""
    strong = ink > 0.25 * ink.max()
    rows, columns = np.flatnonzero(strong.any(axis=1)), np.flatnonzero(strong.any(axis=0))
    box = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = box.shape
    side = max(height, width)
    square = np.zeros((side, side), dtype=np.float32)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = box
    enlarged = Image.fromarray(square).resize((CELL, CELL), Image.Resampling.BILINEAR)
    return np.asarray(enlarged) / ink.max()


def pixel_means(squares: NDArray[np.float32]) -> NDArray[np.float32]:
    """[N, 16, 16] -> [N, 65] means of 2 x 2 pixels, of unit length so that thick and thin strokes are comparable.

    The last feature is the share of ink, which normalisation removes; it distinguishes a filled block from an eight.
    """
    half = CELL // 2
    means = squares.reshape(len(squares), half, 2, half, 2).mean(axis=(2, 4)).reshape(len(squares), -1)
    return np.hstack([unit_rows(means), means.mean(axis=1, keepdims=True)])


def stroke_directions(squares: NDArray[np.float32], grid: int = 5, bins: int = 8) -> NDArray[np.float32]:
    """[N, 16, 16] -> [N, 200] unit histograms of gradient directions on a grid (Dalal and Triggs 2005)."""
    margin = 2
    padded = np.pad(squares, ((0, 0), (margin, margin), (margin, margin)))
    down, right = np.gradient(gaussian_filter(padded, (0, 0.6, 0.6)), axis=(1, 2))
    size = np.hypot(down, right)
    turn = (np.arctan2(down, right) % (2 * np.pi)) / (2 * np.pi) * bins
    low = np.floor(turn).astype(np.int64) % bins
    share = turn - np.floor(turn)
    at = np.linspace(margin, margin + CELL - 1, grid).round().astype(np.int64)
    histograms = np.empty((len(squares), grid, grid, bins), dtype=np.float32)
    for direction in range(bins):
        weight = (low == direction) * (1 - share) + ((low + 1) % bins == direction) * share
        # Blurring makes the histograms robust to small shifts.
        voted = gaussian_filter(size * weight, (0, 1.5, 1.5))
        histograms[..., direction] = voted[:, at][:, :, at]
    return unit_rows(np.sqrt(histograms.reshape(len(squares), -1)))


def unit_rows(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows [N, D] at unit length; zero rows stay zero."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return (features / np.maximum(lengths, 1e-6)).astype(np.float32)

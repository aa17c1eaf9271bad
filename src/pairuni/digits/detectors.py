"""Two detectors that read images: one computes the reward, the other scores the evaluation.

They share the four places and the colour measurement, and classify digits with different training scans, features and
families of classifiers. docs/digits.md states their accuracies on clean held-out scenes, with the code to measure them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from pairuni.digits.language import DIGITS
from pairuni.digits.scans import ScanGroup, Scans, varied_scans
from pairuni.digits.scenes import CELL, COLOURS, PLACES, SIZE, Scene, Thing

ImageLike = Image.Image | NDArray[np.uint8]

_FAINT = 0.2
"""Ink below this share of full brightness is an artefact of the image tokenizer, not a stroke."""
_SPECK = 6.0
"""A place with less ink (in full pixels) than this is empty; every scan has more."""
_SPILL = 0.08
"""Ink with a larger share than this on the edge of its place extends across places, and is not a digit."""
_COLOUR_COSINE = 0.96
"""Minimum cosine between a colour and one of the four colours; below it, the colour is unknown."""


@dataclass(frozen=True)
class Reading:
    """What a detector finds. things: digit or colour is None if it is unknown."""

    things: tuple[Seen, ...]

    @property
    def scene(self) -> Scene | None:
        """The scene, or None if anything in the image is unknown."""
        named = [
            Thing(seen.place, seen.digit, seen.colour)
            for seen in self.things
            if seen.digit is not None and seen.colour is not None
        ]
        return Scene.of(named) if len(named) == len(self.things) else None

    @property
    def words(self) -> str:
        """The things found, as text for people."""
        return ", ".join(seen.words for seen in self.things) or "nothing"


@dataclass(frozen=True)
class Seen:
    """Ink in one place, and how it was classified."""

    place: str
    digit: int | None
    colour: str | None

    @property
    def words(self) -> str:
        digit = "scribble" if self.digit is None else DIGITS[self.digit]
        return f"{self.colour or 'odd-coloured'} {digit} {self.place}"


class Detector(ABC):
    """Reads images of the world."""

    def read(self, images: Sequence[ImageLike]) -> list[Reading]:
        """One reading per image. Raises ValueError if an image is not SIZE by SIZE."""
        found: list[tuple[int, str, str | None, bool]] = []
        strokes: list[NDArray[np.float32]] = []
        for index, image in enumerate(images):
            pixels = _pixels(image)
            for place, (row, column) in PLACES.items():
                cell = pixels[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL]
                ink = cell.max(axis=-1)
                ink = np.where(ink < _FAINT, 0.0, ink).astype(np.float32)
                if ink.sum() >= _SPECK:
                    inside = ink[1:-1, 1:-1].sum() >= (1 - _SPILL) * ink.sum()
                    found.append((index, place, _colour(cell, ink), bool(inside)))
                    strokes.append(ink)
        digits = self._digits(np.stack([_square(ink) for ink in strokes])) if strokes else []
        things: list[list[Seen]] = [[] for _ in images]
        for (index, place, colour, inside), digit in zip(found, digits, strict=True):
            things[index].append(Seen(place, digit if inside else None, colour))
        return [Reading(tuple(seen)) for seen in things]

    @abstractmethod
    def _digits(self, squares: NDArray[np.float32]) -> list[int | None]:
        """The digit of each [N, CELL, CELL] normalised patch of ink; None if it is unlike all digits."""


class RewardDetector(Detector):
    """A support vector machine (RBF) on pixels, trained on the "reward" scans."""

    def __init__(self) -> None:
        squares, scans = _training_squares("reward")
        features = _shrunk(squares)
        self._machine = SVC(C=10.0, gamma="scale").fit(features, scans.digits)
        self._known = _Known(features, scans.ids)

    def _digits(self, squares: NDArray[np.float32]) -> list[int | None]:
        features = _shrunk(squares)
        return self._known.only(features, self._machine.predict(features))


class EvaluationDetector(Detector):
    """Nearest neighbours in the discriminant space of stroke histograms, trained on the "evaluation" scans."""

    def __init__(self) -> None:
        squares, scans = _training_squares("evaluation")
        features = _directions(squares)
        self._neighbours = make_pipeline(
            LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto"),
            KNeighborsClassifier(9, weights="distance", algorithm="brute"),
        ).fit(features, scans.digits)
        self._known = _Known(features, scans.ids)

    def _digits(self, squares: NDArray[np.float32]) -> list[int | None]:
        features = _directions(squares)
        return self._known.only(features, self._neighbours.predict(features))


class _Known:
    """Rejects ink whose nearest training scan is too far away.

    The limit is the distance within which nearly every training scan has another scan.
    """

    _SHARE = 0.999

    def __init__(self, features: NDArray[np.float32], ids: NDArray[np.int64]) -> None:
        self._index = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(features)
        distances = euclidean_distances(features)
        distances[ids[:, None] == ids] = np.inf
        self._limit = float(np.quantile(distances.min(axis=1), self._SHARE))

    def only(self, features: NDArray[np.float32], digits: NDArray[np.int64]) -> list[int | None]:
        nearest = self._index.kneighbors(features)[0][:, 0]
        return [
            int(digit) if distance <= self._limit else None
            for digit, distance in zip(digits, nearest, strict=True)
        ]


@cache
def reward_detector() -> RewardDetector:
    """The reward detector, fitted once per process."""
    return RewardDetector()


@cache
def evaluation_detector() -> EvaluationDetector:
    """The evaluation detector, fitted once per process."""
    return EvaluationDetector()


def _training_squares(group: ScanGroup) -> tuple[NDArray[np.float32], Scans]:
    scans = varied_scans(group, variants=2)
    return np.stack([_square(glyph) for glyph in scans.glyphs]), scans


def _pixels(image: ImageLike) -> NDArray[np.float32]:
    pixels = np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image)
    if pixels.shape != (SIZE, SIZE, 3):
        raise ValueError(f"an image of the digits world has {SIZE}x{SIZE} pixels, not {pixels.shape[:2]}")
    return pixels.astype(np.float32) / 255.0


def _colour(cell: NDArray[np.float32], ink: NDArray[np.float32]) -> str | None:
    mean = (cell * ink[..., None]).sum(axis=(0, 1))
    mean /= np.linalg.norm(mean)
    cosines = {name: float(mean @ (np.asarray(rgb) / np.linalg.norm(rgb))) for name, rgb in COLOURS.items()}
    best = max(cosines, key=lambda name: cosines[name])
    return best if cosines[best] >= _COLOUR_COSINE else None


def _square(ink: NDArray[np.float32]) -> NDArray[np.float32]:
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


def _shrunk(squares: NDArray[np.float32]) -> NDArray[np.float32]:
    """[N, 16, 16] -> [N, 65] means of 2 x 2 pixels, of unit length so that thick and thin strokes are comparable.

    The last feature is the share of ink, which normalisation removes; it distinguishes a filled block from an eight.
    """
    half = CELL // 2
    means = squares.reshape(len(squares), half, 2, half, 2).mean(axis=(2, 4)).reshape(len(squares), -1)
    return np.hstack([_unit(means), means.mean(axis=1, keepdims=True)])


def _directions(squares: NDArray[np.float32], grid: int = 5, bins: int = 8) -> NDArray[np.float32]:
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
    return _unit(np.sqrt(histograms.reshape(len(squares), -1)))


def _unit(features: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return (features / np.maximum(lengths, 1e-6)).astype(np.float32)

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
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from pairuni.digits.features import (
    ImageLike,
    as_pixels,
    ink_square,
    inked_places,
    pixel_means,
    stroke_directions,
)
from pairuni.digits.language import DIGITS
from pairuni.digits.scans import ScanGroup, Scans, varied_scans
from pairuni.digits.scenes import COLOURS, Scene, Thing

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
            for inked in inked_places(as_pixels(image)):
                ink = inked.ink
                inside = ink[1:-1, 1:-1].sum() >= (1 - _SPILL) * ink.sum()
                found.append((index, inked.place, _colour_name(inked.colour), bool(inside)))
                strokes.append(ink)
        digits = self._digits(np.stack([ink_square(ink) for ink in strokes])) if strokes else []
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
        features = pixel_means(squares)
        self._machine = SVC(C=10.0, gamma="scale").fit(features, scans.digits)
        self._known = _Known(features, scans.ids)

    def _digits(self, squares: NDArray[np.float32]) -> list[int | None]:
        features = pixel_means(squares)
        return self._known.only(features, self._machine.predict(features))


class EvaluationDetector(Detector):
    """Nearest neighbours in the discriminant space of stroke histograms, trained on the "evaluation" scans."""

    def __init__(self) -> None:
        squares, scans = _training_squares("evaluation")
        features = stroke_directions(squares)
        self._neighbours = make_pipeline(
            LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto"),
            KNeighborsClassifier(9, weights="distance", algorithm="brute"),
        ).fit(features, scans.digits)
        self._known = _Known(features, scans.ids)

    def _digits(self, squares: NDArray[np.float32]) -> list[int | None]:
        features = stroke_directions(squares)
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
    return np.stack([ink_square(glyph) for glyph in scans.glyphs]), scans


def _colour_name(colour: NDArray[np.float32]) -> str | None:
    cosines = {name: float(colour @ (np.asarray(rgb) / np.linalg.norm(rgb))) for name, rgb in COLOURS.items()}
    best = max(cosines, key=lambda name: cosines[name])
    return best if cosines[best] >= _COLOUR_COSINE else None

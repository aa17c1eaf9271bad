"""Image encoders of the world for PairUG builds, such as ``--encoder pairuni.digits.encoders:strokes``.

Each grades the similarity of two images by other facts, so an ablation can compare what the sides of a pair share:
``pixels`` colours in their places, ``strokes`` digits and colours in their places, ``colours`` colours alone. Features
are centred on their mean over the world's scenes. What all scenes share, such as the black background, would otherwise
bring every cosine near 1. Images of another size are resized first.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pairuni.digits.features import Inked, as_pixels, ink_square, inked_places, stroke_directions, unit_rows
from pairuni.digits.scenes import PLACES, SIZE, random_scene, render

Features = NDArray[np.float32]

_SCENES = 1024
"""Number of random training scenes whose mean is subtracted."""
_HUES = 12
_DIGIT, _COLOUR = np.sqrt(4 / 5), np.sqrt(1 / 5)
"""Weights of strokes and colour in the features of a place. A change of every digit and a change of every colour then
lower the cosine about equally, because two handwritings of one digit are less alike than two patches of one colour."""


def pixels(images: Sequence[Image.Image]) -> Features:
    """[N, 3072]: the image. Scenes are similar if they have the same colours in the same places.

    The digits count less: pixels of the same digit in two handwritings overlap little more than those of two digits.
    """
    shown = _pixels(images)
    return np.stack([image.ravel() for image in shown]) - _mean_image()


def strokes(images: Sequence[Image.Image]) -> Features:
    """[N, 812]: directions and colour of the strokes in each place.

    Scenes are similar if they have the same digits, in the same colours, in the same places. The position within a
    place, size and brightness do not count. An empty place is 0, so scenes without a common place have cosine 0.
    """
    features = np.zeros((len(images), len(PLACES), 203), np.float32)
    order = list(PLACES)
    found = [(row, inked) for row, image in enumerate(_pixels(images)) for inked in inked_places(image)]
    if found:
        measured = [
            unit_rows(side - mean)
            for side, mean in zip(_strokes([inked for _, inked in found]), _mean_strokes(), strict=True)
        ]
        for (row, inked), directions, colour in zip(found, *measured, strict=True):
            features[row, order.index(inked.place)] = np.hstack([_DIGIT * directions, _COLOUR * colour])
    return features.reshape(len(images), -1)


def colours(images: Sequence[Image.Image]) -> Features:
    """[N, 12]: ink per hue. Scenes are similar if they have the same colours in the same amounts.

    Digits and places do not count.
    """
    return _hues(_pixels(images)) - _mean_hues()


def _pixels(images: Sequence[Image.Image]) -> list[Features]:
    """Each image as [SIZE, SIZE, 3] in [0, 1]."""
    return [
        as_pixels(image if image.size == (SIZE, SIZE) else image.resize((SIZE, SIZE))) for image in images
    ]


def _strokes(found: Sequence[Inked]) -> tuple[Features, Features]:
    """Stroke directions [N, 200] and colours [N, 3] of places with ink."""
    squares = np.stack([ink_square(inked.ink) for inked in found])
    return stroke_directions(squares), np.stack([inked.colour for inked in found])


def _hues(images: Sequence[Features]) -> Features:
    """Histograms [N, 12] of hue, weighted by how coloured a pixel is. The root makes small amounts count."""
    histograms = np.zeros((len(images), _HUES), np.float32)
    for histogram, image in zip(histograms, images, strict=True):
        coloured = image.max(axis=-1) - image.min(axis=-1)
        hue = np.asarray(Image.fromarray((image * 255).round().astype(np.uint8)).convert("HSV"))[..., 0]
        at = hue / 256 * _HUES
        low = np.floor(at).astype(np.int64)
        np.add.at(histogram, low, coloured * (low + 1 - at))
        np.add.at(histogram, (low + 1) % _HUES, coloured * (at - low))
    return np.sqrt(histograms)


@cache
def _scenes() -> list[Features]:
    rng = np.random.default_rng(0)
    return [as_pixels(render(random_scene(rng, "train"), rng)) for _ in range(_SCENES)]


@cache
def _mean_image() -> Features:
    return np.stack(_scenes()).mean(axis=0).ravel()


@cache
def _mean_strokes() -> tuple[Features, Features]:
    directions, colour = _strokes([inked for scene in _scenes() for inked in inked_places(scene)])
    return directions.mean(axis=0), colour.mean(axis=0)


@cache
def _mean_hues() -> Features:
    mean: Features = _hues(_scenes()).mean(axis=0)
    return mean

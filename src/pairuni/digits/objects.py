"""The digits world's reader as a detector of objects: digits by name, each in its place and colour."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from pairuni.digits.detectors import Seen, reward_detector
from pairuni.digits.language import DIGITS
from pairuni.digits.scenes import CELL, PLACES
from pairuni.rewards.composition.detection import Detection


class DigitsDetector:
    """What ``RewardDetector`` reads, each thing a box as large as its place. What is no digit is left out."""

    name = "digits"
    labels = frozenset(DIGITS)
    names_colours = True

    def __call__(self, pictures: Sequence[Image.Image]) -> list[list[Detection]]:
        """The digits of each image. Raises ValueError when one is not of the world's size."""
        return [
            [_object(seen, DIGITS[seen.digit]) for seen in reading.things if seen.digit is not None]
            for reading in reward_detector().read(pictures)
        ]


def _object(seen: Seen, name: str) -> Detection:
    row, column = PLACES[seen.place]
    left, top = float(column * CELL), float(row * CELL)
    return Detection((left, top, left + CELL, top + CELL), 1.0, name, colour=seen.colour)

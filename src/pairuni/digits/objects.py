"""The reward detector of the digits world as an object detector for the reward composition."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from pairuni.digits.detectors import Seen, reward_detector
from pairuni.digits.language import DIGITS
from pairuni.digits.scenes import CELL, PLACES
from pairuni.rewards.composition.detection import Detection


class DigitsDetector:
    """Detections of ``RewardDetector``: one box per digit, as large as its place. Unknown ink is left out."""

    name = "digits"
    labels = frozenset(DIGITS)
    names_colours = True

    def __call__(self, images: Sequence[Image.Image]) -> list[list[Detection]]:
        """The digits of each image. Raises ValueError if an image is not SIZE by SIZE."""
        return [
            [_object(seen, DIGITS[seen.digit]) for seen in reading.things if seen.digit is not None]
            for reading in reward_detector().read(images)
        ]


def _object(seen: Seen, name: str) -> Detection:
    row, column = PLACES[seen.place]
    left, top = float(column * CELL), float(row * CELL)
    return Detection((left, top, left + CELL, top + CELL), 1.0, name, colour=seen.colour)

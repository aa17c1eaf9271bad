"""What each of the four places of a scene shows, as classes."""

from __future__ import annotations

import torch
from torch import Tensor

from pairuni.digits.scenes import COLOURS, PLACES, Scene

NOTHING = 10
"""The class of an empty place, after the ten digits."""


def place_targets(scenes: list[Scene]) -> tuple[Tensor, Tensor]:
    """Digit class [N, 4] (NOTHING where empty) and colour class [N, 4] (-100 where empty)."""
    digits = torch.full((len(scenes), len(PLACES)), NOTHING)
    colours = torch.full((len(scenes), len(PLACES)), -100)
    for row, scene in enumerate(scenes):
        for thing in scene.things:
            column = list(PLACES).index(thing.place)
            digits[row, column] = thing.digit
            colours[row, column] = list(COLOURS).index(thing.colour)
    return digits, colours

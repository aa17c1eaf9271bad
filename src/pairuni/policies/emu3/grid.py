"""The layout of a picture in Emu3's sequences."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

SECTION = "drawing"
"""Key of config.json for the grid of a run; the released models have no such key."""


@dataclass(frozen=True)
class Grid:
    """A drawn picture of height x width codes, row by row, with an end-of-line token between rows.

    End-of-line tokens are forced, never sampled, and so are no decisions. What follows the last code is the same for
    every picture (end of line, of frame, of image, of sequence) and is not decoded.
    """

    height: int
    width: int

    @property
    def tokens(self) -> int:
        """Tokens up to the last code."""
        return self.height * (self.width + 1) - 1

    @property
    def line_ends(self) -> list[int]:
        """Positions of the end-of-line tokens."""
        return list(range(self.width, self.tokens, self.width + 1))

    @property
    def codes(self) -> Tensor:
        """Positions [height * width] of the codes."""
        places = torch.arange(self.tokens)
        return places[places % (self.width + 1) != self.width]

    def with_line_ends(self, codes: Tensor, line_end: int) -> Tensor:
        """Codes [height * width] -> tokens."""
        return pad(codes.view(self.height, self.width), (0, 1), value=line_end).flatten()[:-1]

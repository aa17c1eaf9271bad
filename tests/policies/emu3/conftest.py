"""One tiny random Emu3 for the tests of this folder that do not change it."""

import pytest
from PIL import Image

from pairuni.policies.emu3.grid import Grid
from pairuni.policies.emu3.policy import Emu3Policy
from tiny_emu3 import tiny_emu3

GRID = Grid(height=3, width=4)


@pytest.fixture(scope="session")
def emu3() -> Emu3Policy:
    return Emu3Policy(*tiny_emu3(), grid=GRID)


@pytest.fixture
def fresh_emu3() -> Emu3Policy:
    """A policy that a test may train or change."""
    return Emu3Policy(*tiny_emu3(), grid=GRID)


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    """Two sizes of the processor's images: 2 x 4 and 4 x 4 visual tokens."""
    return [Image.linear_gradient("L").resize((32, 16)).convert("RGB"), Image.radial_gradient("L")]

"""Scenes: up to four coloured digits, each in one of four places; random sampling and rendering."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pairuni.digits.scans import GLYPH, Scans, load_scans

Split = Literal["train", "held-out"]

SIZE = 32
"""Height and width of an image in pixels."""
CELL = SIZE // 2

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (235, 60, 50),
    "green": (70, 200, 90),
    "blue": (80, 130, 250),
    "yellow": (245, 215, 70),
}
PLACES: dict[str, tuple[int, int]] = {
    "top left": (0, 0),
    "top right": (0, 1),
    "bottom left": (1, 0),
    "bottom right": (1, 1),
}
"""Name of a place -> (row, column) of its cell."""

_HELD_OUT_SHARE = 0.2


@dataclass(frozen=True, order=True)
class Thing:
    """One digit of a scene."""

    place: str
    digit: int
    colour: str


@dataclass(frozen=True)
class Scene:
    """Things in reading order. Scenes with equal things are equal, whatever scans render them."""

    things: tuple[Thing, ...]

    @property
    def key(self) -> str:
        return ";".join(f"{t.place}:{t.colour}:{t.digit}" for t in self.things)

    @property
    def split(self) -> Split:
        return split_of(self.key)

    def to_json(self) -> list[dict[str, Any]]:
        return [{"place": t.place, "digit": t.digit, "colour": t.colour} for t in self.things]

    @staticmethod
    def from_json(things: list[dict[str, Any]]) -> Scene:
        return Scene.of(Thing(t["place"], t["digit"], t["colour"]) for t in things)

    @staticmethod
    def of(things: Any) -> Scene:
        """A scene of these things, sorted in reading order; at most one thing per place."""
        ordered = tuple(sorted(things, key=lambda t: PLACES[t.place]))
        assert len({t.place for t in ordered}) == len(ordered)
        return Scene(ordered)


def split_of(key: str) -> Split:
    """The split of a scene or prompt, decided by a hash of its text."""
    share = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") / 2**32
    return "held-out" if share < _HELD_OUT_SHARE else "train"


def random_things(rng: np.random.Generator, count: int) -> list[Thing]:
    """``count`` (1 to 4) things of any digit and colour in distinct places."""
    places = rng.permutation(list(PLACES))[:count]
    colours = list(COLOURS)
    return [Thing(str(p), int(rng.integers(10)), colours[rng.integers(len(colours))]) for p in places]


def random_scene(rng: np.random.Generator, split: Split, counts: tuple[int, ...] = (1, 2, 3, 4)) -> Scene:
    """A random scene of ``split`` whose number of things is sampled from ``counts``."""
    while True:
        scene = Scene.of(random_things(rng, int(rng.choice(counts))))
        if scene.split == split:
            return scene


def render(scene: Scene, rng: np.random.Generator, scans: Scans | None = None) -> NDArray[np.uint8]:
    """The image [SIZE, SIZE, 3] of a scene; ``rng`` chooses scans, small shifts and brightness.

    By default, the scans are those of the scene's split.
    """
    if scans is None:
        scans = load_scans(scene.split)
    return painted([(thing, rng) for thing in scene.things], scans)


def painted(things: Iterable[tuple[Thing, np.random.Generator]], scans: Scans) -> NDArray[np.uint8]:
    """The image [SIZE, SIZE, 3] of things, each with the generator that chooses its scan, shift and brightness."""
    image = np.zeros((SIZE, SIZE, 3), dtype=np.float32)
    for thing, rng in things:
        glyph = scans.glyphs[rng.choice(scans.of_digit(thing.digit))]
        row, column = PLACES[thing.place]
        top = row * CELL + int(rng.integers(1, CELL - GLYPH))
        left = column * CELL + int(rng.integers(1, CELL - GLYPH))
        brightness = rng.uniform(0.85, 1.0)
        colour = np.asarray(COLOURS[thing.colour], dtype=np.float32) * brightness
        image[top : top + GLYPH, left : left + GLYPH] = glyph[..., None] * colour
    return image.round().astype(np.uint8)


def render_image(scene: Scene, rng: np.random.Generator) -> Image.Image:
    """``render`` as a PIL image."""
    return Image.fromarray(render(scene, rng))

"""Image editing in the digits world: an image, an instruction that changes one digit, and the scene that it asks for.

instruction := "make the" name colour | "remove the" name | "add" phrase | "replace the" name "with" phrase
name        := [colour] (digit | "digit") [place]

A name fits exactly one thing of the scene. A phrase is that of ``language.py``: a new digit always has a colour, and
also a place where it is added. Each instruction therefore asks for one scene. No digit is replaced by a one, because
"replace the red seven with a blue one" may also mean a blue seven.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Literal, get_args

import numpy as np
from PIL import Image

from pairuni.digits.language import DIGITS, Wanted, phrase
from pairuni.digits.scans import Scans, load_scans
from pairuni.digits.scenes import COLOURS, PLACES, Scene, Split, Thing, painted, random_scene, split_of

EditKind = Literal["recolour", "remove", "add", "replace"]

EDIT_KINDS: tuple[EditKind, ...] = get_args(EditKind)

_COUNTS: dict[EditKind, tuple[int, ...]] = {
    "recolour": (1, 2, 3, 4),
    "remove": (2, 3, 4),
    "add": (1, 2, 3),
    "replace": (1, 2, 3, 4),
}
"""Things of a scene to edit: every edited scene shows something."""


@dataclass(frozen=True)
class Edit:
    """An instruction for the scene ``source``; ``target`` is the scene that it asks for. They differ in one place."""

    kind: EditKind
    source: Scene
    target: Scene
    instruction: str

    @property
    def place(self) -> str:
        """The place that the instruction changes."""
        (changed,) = {thing.place for thing in set(self.source.things) ^ set(self.target.things)}
        return changed


@dataclass(frozen=True)
class Instructed:
    """A held-out editing item: the edit and the image of its source."""

    edit: Edit
    image: Image.Image


def held_out_edits(seed: int, count: int) -> list[Instructed]:
    """``count`` items, the kinds in turn; scenes before and after, scans and instructions are held out."""
    rng = np.random.default_rng([seed, 2])
    edits = [random_edit(rng, EDIT_KINDS[row % len(EDIT_KINDS)], "held-out") for row in range(count)]
    return [Instructed(edit, render_edit(edit, rng)[0]) for edit in edits]


def random_edit(rng: np.random.Generator, kind: EditKind, split: Split) -> Edit:
    """An edit of one kind; its source, its target and the wording of its instruction belong to ``split``."""
    while True:
        edit = _random_edit(rng, kind, random_scene(rng, split, _COUNTS[kind]))
        if edit.target.split == split and split_of(edit.instruction) == split:
            return edit


def render_edit(
    edit: Edit, rng: np.random.Generator, scans: Scans | None = None
) -> tuple[Image.Image, Image.Image]:
    """The images of source and target; they differ in the changed place alone.

    A recoloured digit keeps its handwriting, position and brightness. By default, the scans are those of the source's
    split.
    """
    scans = scans or load_scans(edit.source.split)
    seeds = {place: int(rng.integers(2**32)) for place in PLACES}
    before, after = (
        Image.fromarray(
            painted([(one, np.random.default_rng(seeds[one.place])) for one in scene.things], scans)
        )
        for scene in (edit.source, edit.target)
    )
    return before, after


def _random_edit(rng: np.random.Generator, kind: EditKind, source: Scene) -> Edit:
    digit, colour = int(rng.integers(10)), str(rng.choice(list(COLOURS)))
    if kind == "add":
        free = [place for place in PLACES if all(thing.place != place for thing in source.things)]
        added = Thing(str(rng.choice(free)), digit, colour)
        wanted = phrase(Wanted(digit, colour, added.place))
        return Edit(kind, source, Scene.of([*source.things, added]), f"add {wanted}")
    old = source.things[rng.integers(len(source.things))]
    rest = [thing for thing in source.things if thing != old]
    name = str(rng.choice(names(old, source)))
    if kind == "remove":
        return Edit(kind, source, Scene.of(rest), f"remove the {name}")
    if kind == "recolour":
        colour = str(rng.choice([one for one in COLOURS if one != old.colour]))
        target = Scene.of([*rest, replace(old, colour=colour)])
        return Edit(kind, source, target, f"make the {name} {colour}")
    digit = int(rng.choice([other for other in range(10) if other not in (1, old.digit)]))
    target = Scene.of([*rest, Thing(old.place, digit, colour)])
    return Edit(kind, source, target, f"replace the {name} with {phrase(Wanted(digit, colour))}")


def names(thing: Thing, scene: Scene) -> list[str]:
    """Everything that a thing can be called so that no other thing of the scene is meant, such as "red digit"."""
    found = []
    for by_colour, by_digit, by_place in product((True, False), repeat=3):
        others = (
            other
            for other in scene.things
            if other != thing
            and (not by_colour or other.colour == thing.colour)
            and (not by_digit or other.digit == thing.digit)
            and (not by_place or other.place == thing.place)
        )
        if next(others, None) is None:
            words = [
                thing.colour if by_colour else "",
                DIGITS[thing.digit] if by_digit else "digit",
                thing.place if by_place else "",
            ]
            found.append(" ".join(filter(None, words)))
    return found

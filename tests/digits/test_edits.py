"""Editing items: names, instructions that mean one scene, splits, images."""

from __future__ import annotations

import re

import numpy as np
import pytest

from pairuni.digits.edits import (
    EDIT_KINDS,
    Edit,
    EditKind,
    held_out_edits,
    names,
    random_edit,
    render_edit,
)
from pairuni.digits.scenes import CELL, PLACES, Scene, Split, Thing, split_of

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
NAME = r"(?:(\w+) )?(\w+)(?: ((?:top|bottom) (?:left|right)))?"
"""A colour, a digit and a place; without a colour, the first word is the digit."""


def edits(kind: EditKind, split: Split, count: int) -> list[Edit]:
    rng = np.random.default_rng(7)
    return [random_edit(rng, kind, split) for _ in range(count)]


def the(name: str, scene: Scene) -> Thing:
    """The one thing that a name means."""
    colour, digit, place = re.fullmatch(NAME, name).groups()
    (found,) = (
        thing
        for thing in scene.things
        if colour in (None, thing.colour)
        and digit in ("digit", DIGITS[thing.digit])
        and place in (None, thing.place)
    )
    return found


def obey(instruction: str, scene: Scene) -> Scene:
    """The scene after an instruction, as its words say."""
    things = set(scene.things)
    if match := re.fullmatch(r"add an? (\w+) (\w+) (\w+ \w+)", instruction):
        colour, digit, place = match.groups()
        return Scene.of(things | {Thing(place, DIGITS.index(digit), colour)})
    if match := re.fullmatch(r"remove the (.+)", instruction):
        return Scene.of(things - {the(match[1], scene)})
    if match := re.fullmatch(r"make the (.+) (\w+)", instruction):
        old = the(match[1], scene)
        return Scene.of(things - {old} | {Thing(old.place, old.digit, match[2])})
    match = re.fullmatch(r"replace the (.+) with an? (\w+) (\w+)", instruction)
    old = the(match[1], scene)
    return Scene.of(things - {old} | {Thing(old.place, DIGITS.index(match[3]), match[2])})


def test_a_thing_is_called_by_what_tells_it_apart() -> None:
    red, blue, two = (
        Thing("top left", 7, "red"),
        Thing("top right", 7, "blue"),
        Thing("bottom left", 2, "red"),
    )
    assert names(red, Scene.of([red, blue, two])) == [
        "red seven top left",
        "red seven",
        "red digit top left",
        "seven top left",
        "digit top left",
    ]
    assert "two" in names(two, Scene.of([red, blue, two]))
    assert "seven" not in names(red, Scene.of([red, blue]))
    assert "digit" in names(red, Scene.of([red]))
    twins = Scene.of([red, Thing("bottom right", 7, "red")])
    assert names(red, twins) == [
        "red seven top left",
        "red digit top left",
        "seven top left",
        "digit top left",
    ]


def test_the_first_held_out_items() -> None:
    first = [(one.edit.kind, one.edit.source.key, one.edit.instruction) for one in held_out_edits(1, 4)]
    assert first == [
        ("recolour", "bottom left:blue:0", "make the zero red"),
        (
            "remove",
            "top left:blue:3;top right:blue:3;bottom left:red:7;bottom right:red:3",
            "remove the red three",
        ),
        ("add", "bottom left:yellow:9", "add a green four bottom right"),
        ("replace", "top left:blue:6;top right:blue:0", "replace the blue digit top left with a red three"),
    ]


@pytest.mark.parametrize("split", ["train", "held-out"])
@pytest.mark.parametrize("kind", EDIT_KINDS)
def test_an_instruction_means_its_target_and_all_belongs_to_the_split(kind: EditKind, split: Split) -> None:
    found = edits(kind, split, 40)
    for edit in found:
        assert obey(edit.instruction, edit.source) == edit.target
        assert split_of(edit.instruction) == edit.source.split == edit.target.split == split
        assert 1 <= len(edit.target.things) <= 4
        differs = {thing.place for thing in set(edit.source.things) ^ set(edit.target.things)}
        assert differs == {edit.place}
    assert len({edit.instruction for edit in found}) > 15


def test_a_digit_is_replaced_by_another_one_that_is_no_one() -> None:
    for edit in edits("replace", "train", 60):
        (old,) = set(edit.source.things) - set(edit.target.things)
        (new,) = set(edit.target.things) - set(edit.source.things)
        assert new.digit not in (1, old.digit)


@pytest.mark.parametrize("kind", EDIT_KINDS)
def test_images_before_and_after_differ_in_the_changed_place_alone(kind: EditKind) -> None:
    rng = np.random.default_rng(0)
    for edit in edits(kind, "train", 10):
        before, after = (np.asarray(image).astype(int) for image in render_edit(edit, rng))
        row, column = PLACES[edit.place]
        changed = np.zeros((32, 32), dtype=bool)
        changed[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = True
        assert (before[~changed] == after[~changed]).all()
        old, new = before[changed], after[changed]
        assert (old != new).any()
        if kind == "recolour":
            # the ink is the brightest channel, and the colours' brightest channels lie between 200 and 250
            assert np.corrcoef(old.max(axis=1), new.max(axis=1))[0, 1] > 0.999
        if kind == "remove":
            assert not new.any()
        if kind == "add":
            assert not old.any()


def test_the_image_of_an_item_is_that_of_its_source() -> None:
    first, again = held_out_edits(3, 8), held_out_edits(3, 8)
    assert [one.edit.kind for one in first] == [*EDIT_KINDS, *EDIT_KINDS]
    for one, other in zip(first, again, strict=True):
        assert one.edit == other.edit
        assert (np.asarray(one.image) == np.asarray(other.image)).all()
        lit = {
            place
            for place, (row, column) in PLACES.items()
            if np.asarray(one.image)[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL].any()
        }
        assert lit == {thing.place for thing in one.edit.source.things}
    assert held_out_edits(4, 1)[0].edit != first[0].edit

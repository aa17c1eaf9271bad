"""The score of edits: ideal ones, none, and right ones that also change something else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fake_editor import FakeEditor
from fake_policy import FakePolicy
from pairuni.digits.edit_evaluation import evaluate_edits, mark_edits, score_of
from pairuni.digits.edits import EDIT_KINDS, Edit, Instructed, held_out_edits, random_edit, render_edit
from pairuni.digits.scans import load_scans
from pairuni.digits.scenes import Scene, Thing, render
from pairuni.intervals import wilson_interval
from pairuni.policies.requests import CannotEdit

SEVEN, TWO, FOUR = (
    Thing("top left", 7, "red"),
    Thing("top right", 2, "blue"),
    Thing("bottom left", 4, "green"),
)
SOURCE = Scene.of([SEVEN, TWO])
EDITS = {
    "recolour": ("make the seven green", [Thing("top left", 7, "green"), TWO]),
    "remove": ("remove the red digit", [TWO]),
    "add": ("add a green four bottom left", [SEVEN, TWO, FOUR]),
    "replace": ("replace the seven with a yellow nine", [Thing("top left", 9, "yellow"), TWO]),
}
MORE = Thing("bottom right", 3, "yellow")


def draw(things: list[Thing]) -> Image.Image:
    """With scans that the detector knows, so that it reads them rightly."""
    return Image.fromarray(render(Scene.of(things), np.random.default_rng(0), load_scans("evaluation")))


def mark(kind: str, image: Image.Image) -> tuple[bool, bool, bool]:
    instruction, target = EDITS[kind]
    edit = Edit(kind, SOURCE, Scene.of(target), instruction)
    (marked,) = mark_edits([Instructed(edit, draw([SEVEN, TWO]))], [image])
    return marked.correct, marked.followed, marked.kept


@pytest.mark.parametrize("kind", EDIT_KINDS)
def test_followed_and_kept(kind: str) -> None:
    target = EDITS[kind][1]
    rest = [thing for thing in target if thing != TWO]
    assert mark(kind, draw(target)) == (True, True, True)
    assert mark(kind, draw([SEVEN, TWO])) == (False, False, True)
    assert mark(kind, draw([*target, MORE])) == (False, True, False)
    assert mark(kind, draw([*rest, Thing("top right", 2, "red")])) == (False, True, False)
    assert mark(kind, draw([*rest, Thing("top right", 5, "blue")])) == (False, True, False)
    assert mark(kind, draw([*rest, Thing("bottom right", 2, "blue")])) == (False, True, False)
    assert mark(kind, Image.new("RGB", (32, 32))) == (False, kind == "remove", False)


@pytest.mark.parametrize(
    ("kind", "things", "expected"),
    [
        ("recolour", [Thing("top left", 7, "yellow"), TWO], (False, False, True)),
        ("recolour", [Thing("top left", 1, "green"), TWO], (False, False, True)),
        ("remove", [SEVEN], (False, False, False)),
        ("add", [SEVEN, TWO, Thing("bottom right", 4, "green")], (False, False, False)),
        ("add", [SEVEN, TWO, Thing("bottom left", 4, "red")], (False, False, True)),
        ("replace", [Thing("top left", 9, "red"), TWO], (False, False, True)),
        ("replace", [TWO, Thing("bottom left", 9, "yellow")], (False, False, False)),
    ],
)
def test_half_right(kind: str, things: list[Thing], expected: tuple[bool, bool, bool]) -> None:
    assert mark(kind, draw(things)) == expected


def test_nearly_all_ideal_edits_of_held_out_handwriting_are_correct_and_no_untouched_image_is() -> None:
    rng = np.random.default_rng(0)
    edits = [random_edit(rng, EDIT_KINDS[row % 4], "train") for row in range(400)]
    pairs = [render_edit(edit, rng, load_scans("held-out")) for edit in edits]
    items = [Instructed(edit, before) for edit, (before, _) in zip(edits, pairs, strict=True)]
    ideal = mark_edits(items, [after for _, after in pairs])
    assert score_of(ideal) >= 0.96
    assert score_of(ideal, "followed") >= 0.98
    untouched = mark_edits(items, [item.image for item in items])
    assert score_of(untouched) <= 0.005
    assert score_of(untouched, "kept") >= 0.97
    more = [
        Scene.of([thing for thing in edit.target.things if thing.place != "top left"] + [SEVEN])
        for edit in edits
    ]
    changed = [edit.place != "top left" and SEVEN not in edit.target.things for edit in edits]
    drawn = [Image.fromarray(render(scene, rng, load_scans("held-out"))) for scene in more]
    worse = [one for one, other in zip(mark_edits(items, drawn), changed, strict=True) if other]
    assert len(worse) > 200
    assert score_of(worse) <= 0.005
    assert score_of(worse, "followed") >= 0.98


@pytest.fixture(scope="module")
def items() -> list[Instructed]:
    return held_out_edits(0, 24)


def editor(items: list[Instructed], right: object) -> FakeEditor:
    """Draws the target of the items whose kind is ``right`` and leaves the others as they are."""
    targets = {(one.image.tobytes(), one.edit.instruction): one.edit for one in items}

    def rule(image: Image.Image, instruction: str) -> Image.Image:
        edit = targets[image.tobytes(), instruction]
        return draw(list(edit.target.things)) if edit.kind == right else image

    return FakeEditor(rule)


def test_every_item_is_edited_once_and_written(items: list[Instructed], tmp_path: Path) -> None:
    policy, done = editor(items, "add"), []
    result = evaluate_edits(policy, items, guidance=2.0, image_guidance=3.0, seed=5, advance=done.append)
    (request,) = policy.requests
    assert (request.guidance, request.image_guidance, request.seed, request.first_prompt) == (2.0, 3.0, 5, 0)
    assert (request.rollouts, request.temperature, len(request.images), done) == (1, 1.0, 24, [24])
    result.write(tmp_path / "run" / "evaluation", "edits")
    written = json.loads((tmp_path / "run" / "evaluation" / "edits.json").read_text())
    assert written["count"] == len(written["items"]) == 24
    assert written["score"] == written["followed"]["score"] == 0.25
    assert written["interval"] == written["followed"]["interval"] == list(wilson_interval(0.25, 24))
    scores = {kind: (found["score"], found["count"]) for kind, found in written["by_kind"].items()}
    assert scores == {"recolour": (0, 6), "remove": (0, 6), "add": (1, 6), "replace": (0, 6)}
    assert written["by_kind"]["add"]["interval"] == list(wilson_interval(1.0, 6))
    row = written["items"][2]
    assert (row["kind"], row["instruction"]) == ("add", "add a green four bottom right")
    assert (row["source"], row["target"]) == (
        "a blue two top right",
        "a blue two top right and a green four bottom right",
    )
    assert row["reply"] == "blue two top right, green four bottom right"
    assert (row["correct"], row["followed"], row["kept"]) == (True, True, True)
    for name in ("source_image", "image"):
        with Image.open(tmp_path / "run" / row[name]) as image:
            assert image.size == (32, 32)


def test_a_policy_without_editing_is_refused(items: list[Instructed]) -> None:
    with pytest.raises(CannotEdit, match="fake cannot edit images"):
        evaluate_edits(FakePolicy(), items, guidance=1.0, image_guidance=1.0, seed=0)

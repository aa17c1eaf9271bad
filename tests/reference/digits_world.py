"""What questions and requests of the digits world mean, said again in plain loops."""

from __future__ import annotations

from itertools import permutations
from typing import Any

from pairuni.digits.language import Request
from pairuni.digits.scenes import Scene

WORDS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
]
COLOURS = ["red", "green", "blue", "yellow"]
PLURALS = ["zeroes", "ones", "twos", "threes", "fours", "fives", "sixes", "sevens", "eights", "nines"]


def literal_answer(scene: Scene, text: str) -> str | None:
    """The answer of an open question, read off word by word; None when the scene leaves it in doubt."""
    things = scene.things
    body = text.removesuffix("?")
    for asked in ("which digit is ", "what colour is the digit "):
        for relation in ("left of", "right of", "above", "below"):
            start = f"{asked}{relation} the "
            if body.startswith(start):
                return literal_beside(scene, relation, body.removeprefix(start), "colour" in asked)
    if text == "what is the sum of the digits?":
        return WORDS[sum(t.digit for t in things)] if len(things) == 2 else None
    if text == "how many digits are there?":
        return WORDS[len(things)]
    if body.startswith("how many digits are "):
        return WORDS[sum(t.colour == body.split()[-1] for t in things)]
    if body.startswith("how many "):
        return WORDS[sum(t.digit == PLURALS.index(body.split()[2]) for t in things)]
    if body.startswith("which digit is "):
        what = body.removeprefix("which digit is ")
        return only([WORDS[t.digit] for t in things if what in (t.place, t.colour)])
    if body.startswith("what colour is the digit "):
        return only([t.colour for t in things if t.place == body.removeprefix("what colour is the digit ")])
    if body.startswith("what colour is the "):
        return only([t.colour for t in things if WORDS[t.digit] == body.split()[-1]])
    if body.startswith("where is the "):
        named = body.split()[3]
        return only([t.place for t in things if named == (t.colour if "digit" in body else WORDS[t.digit])])
    raise AssertionError(f"no such question: {text}")


def literal_beside(scene: Scene, relation: str, digit: str, colour: bool) -> str | None:
    """The digit or colour of the only thing in this relation to the only ``digit``."""
    anchor = only([t.place for t in scene.things if WORDS[t.digit] == digit])
    if anchor is None:
        return None
    found = [t for t in scene.things if literal_related(relation, t.place, anchor)]
    return only([t.colour if colour else WORDS[t.digit] for t in found])


def only(found: list[str]) -> str | None:
    return found[0] if len(found) == 1 else None


def literal_related(relation: str, first: str, second: str) -> bool:
    """Left, right, above or below, by the words of the two places."""
    if relation == "left of":
        return "left" in first and "right" in second
    if relation == "right of":
        return "right" in first and "left" in second
    if relation == "above":
        return "top" in first and "bottom" in second
    return "bottom" in first and "top" in second


def literal_fits(wanted: Any, thing: Any) -> bool:
    if wanted.colour is not None and wanted.colour != thing.colour:
        return False
    if wanted.place is not None and wanted.place != thing.place:
        return False
    return bool(wanted.digit == thing.digit)


def literal_satisfies(scene: Scene, request: Request) -> bool:
    if len(scene.things) != len(request.wanted):
        return False
    for order in permutations(scene.things):
        if all(literal_fits(wanted, thing) for wanted, thing in zip(request.wanted, order, strict=True)) and (
            request.relation is None or literal_related(request.relation, order[0].place, order[1].place)
        ):
            return True
    return False


def literal_grade(request: Request, things: list[Any]) -> tuple[float, list[int | None]]:
    """The graded reward, and which thing stood for each wanted one under the best assignment."""
    facts = 0
    for wanted in request.wanted:
        facts += 2 + (wanted.colour is not None) + (wanted.place is not None)
    facts += request.relation is not None
    indices: list[int | None] = [*range(len(things)), *[None] * len(request.wanted)]
    best, chosen = -1, [None] * len(request.wanted)
    for order in set(permutations(indices, len(request.wanted))):
        held = 0
        for wanted, index in zip(request.wanted, order, strict=True):
            if index is None:
                continue
            held += things[index].colour is not None
            held += things[index].digit == wanted.digit
            held += wanted.colour is not None and things[index].colour == wanted.colour
            held += wanted.place is not None and things[index].place == wanted.place
        if request.relation is not None and order[0] is not None and order[1] is not None:
            first, second = things[order[0]], things[order[1]]
            digits = (first.digit, second.digit) == (request.wanted[0].digit, request.wanted[1].digit)
            held += digits and literal_related(request.relation, first.place, second.place)
        if held > best:
            best, chosen = held, list(order)
    surplus = max(0, len(things) - len(request.wanted))
    return max(0, best - surplus) / facts, chosen

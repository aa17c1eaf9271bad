"""Captions and prompts of the digits world, and their parser.

caption  := phrase (" and " phrase)* | count things
phrase   := ("a" | "an") [colour] digit [place | relation phrase]
relation := "left of" | "right of" | "above" | "below"
count    := "two" | "three" | "four", followed by the digit in the plural ("two sevens")
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pairuni.digits.scenes import COLOURS, PLACES, Scene

NUMBERS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
    "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
)  # fmt: skip
DIGITS = NUMBERS[:10]
PLURALS = tuple(f"{word}es" if word in ("zero", "six") else f"{word}s" for word in DIGITS)
RELATIONS: dict[str, tuple[int, int]] = {
    "left of": (0, -1),
    "right of": (0, 1),
    "above": (-1, 0),
    "below": (1, 0),
}
"""Relation -> direction (row, column) from the second thing to the first."""


@dataclass(frozen=True)
class Wanted:
    """A thing that a prompt requires; None means unspecified."""

    digit: int
    colour: str | None = None
    place: str | None = None


@dataclass(frozen=True)
class Request:
    """The content of a prompt: exactly these things; the relation is that of the first to the second."""

    wanted: tuple[Wanted, ...]
    relation: str | None = None


def phrase(wanted: Wanted) -> str:
    """One thing in words, such as "a red seven top left"."""
    named = " ".join(filter(None, (wanted.colour, DIGITS[wanted.digit], wanted.place)))
    return f"{'an' if named.startswith('eight') else 'a'} {named}"


def sentence(request: Request) -> str:
    """A request in words; ``parse`` is its inverse."""
    first = request.wanted[0]
    if request.relation:
        return f"{phrase(first)} {request.relation} {phrase(request.wanted[1])}"
    if len(request.wanted) > 1 and all(w == Wanted(first.digit) for w in request.wanted):
        return f"{NUMBERS[len(request.wanted)]} {PLURALS[first.digit]}"
    return " and ".join(map(phrase, request.wanted))


def caption(scene: Scene) -> str:
    """Everything that a scene shows, in reading order, as the paper requires of a caption (section 2.1)."""
    return sentence(Request(tuple(Wanted(t.digit, t.colour, t.place) for t in scene.things)))


_PHRASE = re.compile(
    rf"an? (?:(?P<colour>{'|'.join(COLOURS)}) )?(?P<digit>{'|'.join(DIGITS)})"
    rf"(?: (?P<place>{'|'.join(PLACES)}))?"
)
_RELATED = re.compile(rf"(?P<first>.+?) (?P<relation>{'|'.join(RELATIONS)}) (?P<second>.+)")
_COUNTED = re.compile(rf"(?P<count>two|three|four) (?P<digit>{'|'.join(PLURALS)})")


def parse(prompt: str) -> Request:
    """The content of a prompt. Raises ValueError if it does not follow the grammar above."""
    text = prompt.strip().removesuffix(".").lower()
    if match := _COUNTED.fullmatch(text):
        count = NUMBERS.index(match["count"])
        return Request((Wanted(PLURALS.index(match["digit"])),) * count)
    if match := _RELATED.fullmatch(text):
        return Request((_thing(match["first"], prompt), _thing(match["second"], prompt)), match["relation"])
    return Request(tuple(_thing(part, prompt) for part in text.split(" and ")))


def _thing(text: str, prompt: str) -> Wanted:
    match = _PHRASE.fullmatch(text)
    if match is None:
        raise ValueError(f"the prompt {prompt!r} is not of the digits world: cannot read {text!r}")
    return Wanted(DIGITS.index(match["digit"]), match["colour"], match["place"])

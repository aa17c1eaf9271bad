"""The official parsing of MMMU replies: the choice, or the words and numbers, in a reply."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_EDGES = (",", ".", "!", "?", ";", ":", "'")
_LEADS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_NUMBERS = (
    re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b"),  # 1,234
    re.compile(r"-?\d+(?:\.\d+)?[eE][+-]?\d+"),  # 1.5e3
    re.compile(r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])"),  # 12 or 1.5
)


def choice_in(reply: str, choices: Sequence[str], options: Mapping[str, str]) -> str | None:
    """The letter that a reply names, the last one if it names several; None if it names none.

    In this order: a letter in brackets, a letter between spaces, and in a reply of more than five words the text of
    an option. Letters are case-sensitive, options are not.
    """
    for mark in _EDGES:
        reply = reply.strip(mark)
    reply = f" {reply} "
    for form in ("({})", " {} "):
        found = {letter: reply.rfind(form.format(letter)) for letter in choices}
        if max(found.values(), default=-1) >= 0:
            return max(found, key=found.__getitem__)
    if len(reply.split()) > 5:
        reply = reply.lower()
        found = {letter: reply.rfind(text.lower()) for letter, text in options.items()}
        if max(found.values(), default=-1) >= 0:
            return max(found, key=found.__getitem__)
    return None


def values_in(reply: str) -> set[str | float]:
    """The candidate values of an open reply: the text after words like "is" or "answer", and the numbers in it."""
    tails = _tails(reply.strip().strip(".").lower())
    texts = [*tails, *(number for tail in tails for form in _NUMBERS for number in form.findall(tail))]
    return {value for text in texts for value in normalised(text)}


def normalised(text: str) -> list[str | float]:
    """A number rounded to two places, or lower-case text; a single character needs a space next to it."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        text = text.lower()
        return [f" {text}", f"{text} "] if len(text) == 1 else [text]


def is_right(values: set[str | float], truth: str | Sequence[str]) -> bool:
    """Whether a value contains a true answer's text, or equals its number."""
    truths = [truth] if isinstance(truth, str) else truth
    wanted = [value for one in truths for value in normalised(one)]
    return any(
        any(isinstance(want, str) and want in value for want in wanted)
        if isinstance(value, str)
        else value in wanted
        for value in values
    )


def _tails(reply: str) -> list[str]:
    """The shortest tail after a leading word in each line; the complete reply if no line has one.

    The official script also tries to split sentences at capital letters, but has lower-cased the text before.
    """
    lines = reply.split("\n")
    tails = []
    for number, line in enumerate(lines, start=1):
        leads = (*_LEADS, "=") if number == len(lines) else _LEADS
        found = [line.split(lead)[-1].strip() for lead in leads if lead in line]
        shortest = _shortest(found)
        if shortest and shortest not in _EDGES:
            tails.append(shortest)
    return tails or [reply]


def _shortest(found: Sequence[str]) -> str:
    """The first of the shortest tails; as in the official script, the next tail replaces an empty one."""
    shortest = ""
    for tail in found:
        if not shortest or len(tail) < len(shortest):
            shortest = tail
    return shortest

"""Which option an answer names: by its letter, its text, or its place; what differs is not guessed."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from pairuni.pairug.completion.options import LETTERS, fault_of, lettered
from pairuni.pairug.sources.choices import Choices
from pairuni.pairug.sources.literals import LETTER_IN_FRONT
from pairuni.pairug.sources.values import as_text

READINGS = {
    "letter": "as a letter",
    "text": "as a text",
    "index0": "counted from 0",
    "index1": "counted from 1",
}
"""What an answer can name an option by."""

_LISTED = re.compile(r"(?<![A-Za-z0-9])\(?A[.):]\s*\S.*(?<![A-Za-z0-9])\(?B[.):]\s*\S", re.S)
_IN_FRONT = re.compile(rf"{LETTER_IN_FRONT}(?=\S)")
_LETTER = re.compile(
    r"(?:(?:the\s+)?(?:correct\s+)?(?:answer|option|choice)(?:\s+is)?\s*:?\s*"
    r"|(?:正确)?(?:答案|选项)\s*[是为]?\s*:?\s*|选\s*)?"
    r"[*(\[{\"'`$【]*(?P<letter>[a-z])[*)\]}\"'`$】.:、。]*",
    re.I,
)
_LABELLED = re.compile(r"(?:(?:option|choice)\s*)?\(?(\d{1,2})[).:]?", re.I)
_PLACE = re.compile(r"(\d{1,3})(?:\.0+)?")
_NUMBER = re.compile(r"([+-]?)0*(\d{1,40}?)(?:\.(\d{0,40}?)0*)?")


def with_options(question: str, answer: str, choices: Choices, place: int) -> tuple[str, str] | str:
    """The question with lettered options and the right one's letter, or why there is none.

    A question that lists its options already stays as it is; the letter is then the one that it gives to the right
    option, or the answer stays too. The letters keep the order of the data.
    """
    options = list(choices.texts)
    right = options[place]
    if lists_options(question):
        letter = LETTERS[place : place + 1]
        same = re.search(rf"(?<![A-Za-z0-9])\(?{letter}[.):]\s*{re.escape(right)}(?!\w)", question)
        return question, letter if letter and same else answer
    if len(options) < 2:
        return f"there is only one option, {right!r}"
    if len(options) > len(LETTERS):
        return f"there are {len(options)} options; at most {len(LETTERS)} can have a letter"
    wrong = [option for number, option in enumerate(options) if number != place]
    return fault_of(question, right, wrong) or (lettered(question, options), LETTERS[place])


def lists_options(question: str) -> bool:
    """Whether the question's own text lists lettered options."""
    return _LISTED.search(question) is not None


def readings_of(answer: Any, choices: Choices, *, typed: bool, told: str | None = None) -> dict[str, int]:
    """The option that each possible reading of an answer names, as its place from 0, by READINGS.

    typed: whether the source tells a number from a text, as JSON does and CSV does not; a place is then a number.
    told: the one reading that the user says is right.
    """
    text = _plain(str(as_text(answer)))
    found = {"letter": _by_letter(text, choices), "text": _by_text(text, choices.texts)}
    quoted = isinstance(answer, str | bytes)
    numbered = any(label.isdecimal() for label in choices.labels)
    if (match := _PLACE.fullmatch(text)) and (told or (not numbered and not (typed and quoted))):
        found |= {"index0": _held(int(match[1]), choices), "index1": _held(int(match[1]) - 1, choices)}
    return {name: place for name, place in found.items() if place is not None and told in (None, name)}


def none_of(answer: Any, choices: Choices, told: str | None = None) -> str:
    """The sentence for an answer without a reading."""
    how = f" {READINGS[told]}" if told else ""
    past = choices.countable < len(choices.texts)
    gap = "; letters and numbers name nothing past a null among them" if past else ""
    counted = [] if told else [name for name in READINGS if _is_place(name, answer, choices)]
    hint = (
        f"; {' or '.join(f'?answers={name}' for name in counted)} takes it as a position" if counted else ""
    )
    return f"{as_text(answer)!r} is none of the options {', '.join(map(repr, choices.texts))}{how}{gap}{hint}"


def _is_place(name: str, answer: Any, choices: Choices) -> bool:
    return name.startswith("index") and bool(readings_of(answer, choices, typed=True, told=name))


def several(answer: Any, choices: Choices, readings: Mapping[str, int]) -> str:
    """The sentence for an answer whose readings differ."""
    said = " or ".join(f"{choices.texts[place]!r} {READINGS[name]}" for name, place in readings.items())
    settings = " or ".join(f"?answers={name}" for name in readings)
    return f"{as_text(answer)!r} could be {said}; {settings} says which"


def _held(place: int, choices: Choices) -> int | None:
    return place if 0 <= place < choices.countable else None


def _by_letter(text: str, choices: Choices) -> int | None:
    """By letter or label, alone or before the option's own text: B, (B), Option B, B. blue."""
    labels = choices.labels or tuple(LETTERS[: choices.countable])
    if match := _LETTER.fullmatch(text):
        label = match["letter"].upper()
    elif match := _LABELLED.fullmatch(text):
        label = match[1]
    elif (match := _IN_FRONT.match(text)) and match[1].upper() in labels:
        place = labels.index(match[1].upper())
        return place if _by_text(text[match.end() :], choices.texts) == place else None
    else:
        return None
    return labels.index(label) if label in labels else None


def _by_text(text: str, options: Sequence[str]) -> int | None:
    """The option that the answer is word for word, else but for case and a full stop, else as a number."""
    for form in (_plain, _loose, _quantity):
        wanted = form(text)
        places = [place for place, option in enumerate(options) if wanted and form(option) == wanted]
        if len(places) == 1:
            return places[0]
    return None


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).split())


def _loose(text: str) -> str:
    return _plain(text).casefold().strip(" .\"'")


def _quantity(text: str) -> str:
    """A number without the zeros that change nothing; empty for other texts."""
    match = _NUMBER.fullmatch(_plain(text))
    return "" if match is None else f"{match[1]}{match[2]}.{match[3] or ''}"

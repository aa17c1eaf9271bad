"""The option that an answer names, by letter, text or position. Ambiguous answers are refused."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from pairuni.pairug.completion.options import LETTERS, fault_of, lettered
from pairuni.pairug.sources.choices import LEADING_LETTER, Choices
from pairuni.pairug.sources.fields import Fields
from pairuni.pairug.sources.values import as_text

INTERPRETATIONS = {
    "letter": "as a letter",
    "text": "as a text",
    "index0": "counted from 0",
    "index1": "counted from 1",
}
"""How an answer may name an option."""

_ROWS = 5000
"""Rows of a file that decide whether its numbers are texts."""
_LISTED = re.compile(r"(?<![A-Za-z0-9])\(?A[.):]\s*\S.*(?<![A-Za-z0-9])\(?B[.):]\s*\S", re.S)
_LETTER = re.compile(
    r"(?:(?:the\s+)?(?:correct\s+)?(?:answer|option|choice)(?:\s+is)?\s*:?\s*"
    r"|(?:正确)?(?:答案|选项)\s*[是为]?\s*:?\s*|选\s*)?"
    r"[*(\[{\"'`$【]*(?P<letter>[a-z])[*)\]}\"'`$】.:、。]*",
    re.I,
)
_LABELLED = re.compile(r"(?:(?:option|choice)\s*)?\(?(\d{1,2})[).:]?", re.I)
_POSITION = re.compile(r"(\d{1,3})(?:\.0+)?")
_NUMBER = re.compile(r"([+-]?)0*(\d{1,40}?)(?:\.(\d{0,40}?)0*)?")


class AnswerResolver:
    """Finds the right option of each row of one file.

    A number among options that are numbers could be a text or a position. Numbers are taken as texts in a file where
    every answer is the text of an option and some can be positions neither from 0 nor from 1; nothing else is
    inferred. only: the interpretation that the user names, if any. rows: reads the fields of the file again.
    """

    def __init__(self, only: str | None, rows: Iterator[Fields]) -> None:
        self._only = only
        self._rows = rows
        self._texts: bool | None = None

    def resolve(self, fields: Fields) -> tuple[str, str] | str:
        """(question with lettered options, right letter) of a row with options, or a str with the reason for none."""
        choices, given = fields.choices, fields.answer
        assert choices is not None
        question, answer = fields.values["question"], fields.values["answer"]
        found = interpretations_of(given, choices, typed=fields.row.typed, only=self._only)
        ambiguous = len(set(found.values())) > 1
        if ambiguous and "text" in found and "letter" not in found and self._numbers_are_texts():
            found, ambiguous = {"text": found["text"]}, False
        if ambiguous:
            return _several(given, choices, found)
        if found:
            return _with_options(question, answer, choices, next(iter(found.values())))
        if _lists_options(question) and self._only is None:
            return question, answer
        return _none(given, choices, self._only)

    def _numbers_are_texts(self) -> bool:
        if self._texts is None:
            possible = {"text", "index0", "index1"}
            for fields in islice(self._rows, _ROWS):
                if fields.choices is not None and fields.answer is not None:
                    possible &= interpretations_of(
                        fields.answer, fields.choices, typed=fields.row.typed
                    ).keys()
            self._texts = possible == {"text"}
        return self._texts


def interpretations_of(
    answer: Any, choices: Choices, *, typed: bool, only: str | None = None
) -> dict[str, int]:
    """Interpretation -> position (from 0) of the option that the answer then names.

    typed: whether the format distinguishes numbers from texts, as JSON does and CSV does not; then only numbers are
    positions. only: the interpretation that the user allows, all if None.
    """
    text = _plain(str(as_text(answer)))
    found = {"letter": _by_letter(text, choices), "text": _by_text(text, choices.texts)}
    quoted = isinstance(answer, str | bytes)
    numbered = any(label.isdecimal() for label in choices.labels)
    if (match := _POSITION.fullmatch(text)) and (only or (not numbered and not (typed and quoted))):
        found |= {"index0": _counted(int(match[1]), choices), "index1": _counted(int(match[1]) - 1, choices)}
    return {name: place for name, place in found.items() if place is not None and only in (None, name)}


def _with_options(question: str, answer: str, choices: Choices, place: int) -> tuple[str, str] | str:
    """(question with lettered options in the order of the data, right letter), or a str with the reason for none.

    A question that already lists its options is kept; the letter is then the one that it gives to the right option,
    or the answer is kept too.
    """
    options = list(choices.texts)
    right = options[place]
    if _lists_options(question):
        letter = LETTERS[place : place + 1]
        same = re.search(rf"(?<![A-Za-z0-9])\(?{letter}[.):]\s*{re.escape(right)}(?!\w)", question)
        return question, letter if letter and same else answer
    if len(options) < 2:
        return f"there is only one option, {right!r}"
    if len(options) > len(LETTERS):
        return f"there are {len(options)} options; at most {len(LETTERS)} can have a letter"
    wrong = [option for number, option in enumerate(options) if number != place]
    return fault_of(question, right, wrong) or (lettered(question, options), LETTERS[place])


def _lists_options(question: str) -> bool:
    """Whether the question's own text lists lettered options."""
    return _LISTED.search(question) is not None


def _none(answer: Any, choices: Choices, only: str | None = None) -> str:
    """The error message for an answer that names no option."""
    how = f" {INTERPRETATIONS[only]}" if only else ""
    past = choices.countable < len(choices.texts)
    gap = "; letters and numbers are ambiguous after a null among them" if past else ""
    positions = [
        f"?answers={name}"
        for name in ("index0", "index1")
        if not only and interpretations_of(answer, choices, typed=True, only=name)
    ]
    hint = f"; {' or '.join(positions)} interprets it as a position" if positions else ""
    return f"{as_text(answer)!r} is none of the options {', '.join(map(repr, choices.texts))}{how}{gap}{hint}"


def _several(answer: Any, choices: Choices, found: Mapping[str, int]) -> str:
    """The error message for an answer whose interpretations differ."""
    options = " or ".join(
        f"{choices.texts[place]!r} {INTERPRETATIONS[name]}" for name, place in found.items()
    )
    settings = " or ".join(f"?answers={name}" for name in found)
    return f"{as_text(answer)!r} could be {options}; choose with {settings}"


def _counted(place: int, choices: Choices) -> int | None:
    return place if 0 <= place < choices.countable else None


def _by_letter(text: str, choices: Choices) -> int | None:
    """By letter or label, on its own or before the text of the option: B, (B), Option B, B. blue."""
    labels = choices.labels or tuple(LETTERS[: choices.countable])
    if match := _LETTER.fullmatch(text):
        label = match["letter"].upper()
    elif match := _LABELLED.fullmatch(text):
        label = match[1]
    elif (match := LEADING_LETTER.match(text)) and match[1].upper() in labels:
        place = labels.index(match[1].upper())
        return place if _by_text(text[match.end() :], choices.texts) == place else None
    else:
        return None
    return labels.index(label) if label in labels else None


def _by_text(text: str, options: Sequence[str]) -> int | None:
    """The option equal to the answer, else equal except for case and a full stop, else equal as a number."""
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
    """A number without redundant zeros; empty for other texts."""
    match = _NUMBER.fullmatch(_plain(text))
    return "" if match is None else f"{match[1]}{match[2]}.{match[3] or ''}"

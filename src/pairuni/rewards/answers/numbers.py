"""Numbers in a text, in digits or words, as exact fractions with their places."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

from pairuni.rewards.answers.tokens import ARTICLES, Token, plain, tokenize, with_numerals

MAX_CHARACTERS = 400
"""Characters of a number that is compared; Python converts no integers of more than 4,300 digits."""
_MAX_WORDS = 40
"""Words of a number."""

_SCALES = {
    "dozen": 12,
    "hundred": 100,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
}
_PARTS = {"half": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "eighth": 8, "tenth": 10}
_PARTS_PLURAL = {"halves": 2} | {f"{word}s": parts for word, parts in _PARTS.items()}
_ORDINALS = {
    "first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8, "ninth": 9,
    "tenth": 10, "eleventh": 11, "twelfth": 12, "thirteenth": 13, "fourteenth": 14, "fifteenth": 15, "sixteenth": 16,
    "seventeenth": 17, "eighteenth": 18, "nineteenth": 19, "twentieth": 20, "thirtieth": 30, "fortieth": 40,
    "fiftieth": 50,
}  # fmt: skip
_ORDINAL_ENDINGS = frozenset({"st", "nd", "rd", "th"})
_NUMERAL = re.compile(r"(\d*\.?\d+)(?:e([+-]?\d{1,3}))?(?:/(\d+))?", re.I)
_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_END = Token("stop", "", False)


@dataclass(frozen=True, slots=True)
class Number:
    """A number in tokens ``first`` to ``last``, exclusive.

    value: minutes after midnight for a time; None if it is not a single number (3-5, 3:2, 1/0) or too long to compare.
    kind: "" for a count or measure, "ordinal" or "time".
    """

    value: Fraction | None
    first: int
    last: int
    kind: str = ""


@lru_cache(maxsize=32)
def tokens_of(text: str) -> tuple[Token, ...]:
    """The tokens of a text without articles and with numerals for number words."""
    return tuple(with_numerals([token for token in tokenize(plain(text)) if token.text not in ARTICLES]))


def numbers_in(tokens: Sequence[Token]) -> list[Number]:
    """All numbers in order: "two hundred and one" is 201, "two thirds" 2/3, "2 1/2" 5/2, "3rd" an ordinal.

    The digits of a label (B3, H2O) are not numbers.
    """
    numbers: list[Number] = []
    place = 0
    while place < len(tokens):
        number = _number_at(tokens, place)
        if number is not None:
            numbers.append(number)
        place = place + 1 if number is None else number.last
    return numbers


def _number_at(tokens: Sequence[Token], place: int) -> Number | None:
    token = tokens[place]
    if token.kind == "number":
        return _numeral(tokens, place)
    if token.kind == "compound" and (time := _TIME.fullmatch(token.text)):
        return Number(Fraction(60 * int(time[1]) + int(time[2])), place, place + 1, kind="time")
    if token.kind in ("compound", "range"):
        return Number(None, place, place + 1)
    if token.kind != "word":
        return None
    if token.lower in ("minus", "negative") and _after(tokens, place).kind == "number":
        number = _numeral(tokens, place + 1)
        return replace(number, first=place, value=None if number.value is None else -number.value)
    if token.lower in _SCALES:
        return _scaled(tokens, place, place, [Fraction(1)])
    if token.lower in _ORDINALS:
        return Number(Fraction(_ORDINALS[token.lower]), place, place + 1, kind="ordinal")
    return None


def _numeral(tokens: Sequence[Token], place: int) -> Number:
    """The number that starts with the numeral at ``place``."""
    value = _value(tokens[place].text)
    after = _after(tokens, place)
    if after.joined and after.lower in _ORDINAL_ENDINGS:
        return Number(value, place, place + 2, kind="ordinal")
    if value is None:
        return Number(None, place, place + 1)
    if value in range(20, 100, 10) and _ORDINALS.get(after.lower, 10) < 10:
        return Number(value + _ORDINALS[after.lower], place, place + 2, kind="ordinal")
    return _scaled(tokens, place, place + 1, [value])


def _scaled(tokens: Sequence[Token], first: int, place: int, parts: list[Fraction]) -> Number:
    """The number of the parts so far and the words that follow: hundreds and thousands, then fractions."""
    below = 0  # bound of what may be added: after "two hundred", 100
    while place < len(tokens):
        token = tokens[place]
        skipped = 1 if below and token.lower == "and" else 0
        value = _value(_after(tokens, place).text if skipped else token.text)
        if token.kind == "word" and token.lower in _SCALES:
            scale = _SCALES[token.lower]
            parts = [part * scale if part < scale else part for part in parts]
            below = scale
        elif value is not None and 0 < value < below:
            parts.append(value)
            below = 0
            place += skipped
        else:
            break
        place += 1
        if place - first > _MAX_WORDS:
            return Number(None, first, place)
    return _with_fraction(tokens, Number(sum(parts, Fraction()), first, place))


def _with_fraction(tokens: Sequence[Token], number: Number) -> Number:
    """The number with the fraction that follows it: one third, two and a half, 2 1/2."""
    assert number.value is not None
    here = _after(tokens, number.last - 1)
    if here.lower in (_PARTS if number.value == 1 else _PARTS_PLURAL):
        parts = (_PARTS | _PARTS_PLURAL)[here.lower]
        return replace(number, value=number.value / parts, last=number.last + 1)
    if number.value.denominator != 1:
        return number
    if here.kind == "number" and "/" in here.text and (value := _value(here.text)) is not None and value < 1:
        return replace(number, value=number.value + value, last=number.last + 1)
    if here.lower == "and" and (parts := _PARTS.get(_after(tokens, number.last).lower, 0)):
        return replace(number, value=number.value + Fraction(1, parts), last=number.last + 2)
    return number


def _after(tokens: Sequence[Token], place: int) -> Token:
    return tokens[place + 1] if place + 1 < len(tokens) else _END


def _value(text: str) -> Fraction | None:
    match = _NUMERAL.fullmatch(text) if len(text) <= MAX_CHARACTERS else None
    if match is None or (match[3] and int(match[3]) == 0):
        return None
    return Fraction(match[1]) * Fraction(10) ** int(match[2] or 0) / int(match[3] or 1)

"""A lenient JSON parser: LaTeX, raw line breaks, comments, trailing commas, other quotes, Python literals."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pairuni.chat.latex import is_latex

DEEPEST = 12
"""Levels of nesting that are parsed."""


class Number(str):
    """A number as written, so that 1.50 stays 1.50 in a text field."""


class NotJSON(ValueError):
    """No value begins here, or it is incomplete."""


def values_in(text: str) -> Iterator[tuple[int, int, Any]]:
    """The outermost objects and arrays in a text, in order, as (start, end, value).

    A number is a ``Number``. A bracket that begins no valid value is skipped, and the text after it is searched. Takes
    time linear in the text's length for each level of nesting.
    """
    reader = _Reader(text)
    place = 0
    while found := _OPENS.search(text, place):
        try:
            value, place = reader.value(found.start(), 0)
        except NotJSON:
            place = found.end()
        else:
            yield found.start(), place, value


_OPENS = re.compile(r"[{\[]")
_BLANK = re.compile(r"(?:\s+|(?://|#)[^\n]{0,2000}(?=\n|$)|/\*.{0,2000}?\*/)*+", re.S)
_NUMBER = re.compile(
    r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?:\s*/\s*\d+(?:\.\d+)?)?|-?(?:NaN|Infinity)\b"
)
_WORD = re.compile(r"[A-Za-z_]\w*")
_WORDS: dict[str, Any] = {
    "true": True,
    "false": False,
    "null": None,
    "True": True,
    "False": False,
    "None": None,
}
_QUOTES = {'"': '"', "'": "'", "“": "”", "”": "”", "„": "“”", "‘": "’", "’": "’", "«": "»", "`": "`"}
_ENDS = {
    opening: re.compile(
        rf"(?:[^\\{closing}]++|\\.|[{closing}](?!\s*(?:[,:}}\]]|//|/\*|\#|$)))*+",
        re.S,
    )
    for opening, closing in _QUOTES.items()
}
"""The content of a string. A quote ends it only in front of what may follow a string in JSON."""
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|.)", re.S)
_ESCAPES = {
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    '"': '"',
    "'": "'",
    "\\": "\\",
    "/": "/",
    "\n": "",
}
_PAIR = re.compile(r"[\ud800-\udbff][\udc00-\udfff]")
_LONE = re.compile(r"[\ud800-\udfff]")


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._ended: dict[str, tuple[int, int]] = {}
        """Start and end of the last string by kind of quote: a string that begins inside ends there too."""

    def value(self, place: int, depth: int) -> tuple[Any, int]:
        """(value, its end). Raises NotJSON."""
        if depth > DEEPEST:
            raise NotJSON
        first = self._text[place : place + 1]
        if first == "{":
            return self._object(place + 1, depth)
        if first == "[":
            return self._array(place + 1, depth)
        if first in _QUOTES:
            begin, end, past = self._quoted(place)
            return _unescaped(self._text[begin:end]), past
        if number := _NUMBER.match(self._text, place):
            return Number(number[0]), number.end()
        word = _WORD.match(self._text, place)
        if word is None or word[0] not in _WORDS:
            raise NotJSON
        return _WORDS[word[0]], word.end()

    def _object(self, place: int, depth: int) -> tuple[dict[str, Any], int]:
        values: dict[str, Any] = {}
        place = self._blank(place)
        while self._text[place : place + 1] != "}":
            begin, end, past = self._name(place)
            colon = self._blank(past)
            if self._text[colon : colon + 1] != ":":
                raise NotJSON
            name = _unescaped(self._text[begin:end])
            values[name], place = self.value(self._blank(colon + 1), depth + 1)
            place = self._next(place, "}")
        return values, place + 1

    def _array(self, place: int, depth: int) -> tuple[list[Any], int]:
        values: list[Any] = []
        place = self._blank(place)
        while self._text[place : place + 1] != "]":
            value, place = self.value(place, depth + 1)
            values.append(value)
            place = self._next(place, "]")
        return values, place + 1

    def _next(self, place: int, closing: str) -> int:
        """The offset after a comma, which may be trailing, or of the closing bracket. Raises NotJSON."""
        place = self._blank(place)
        if self._text[place : place + 1] == ",":
            return self._blank(place + 1)
        if self._text[place : place + 1] != closing:
            raise NotJSON
        return place

    def _name(self, place: int) -> tuple[int, int, int]:
        """(start, end, offset after the closing quote). Raises NotJSON."""
        if self._text[place : place + 1] in _QUOTES:
            return self._quoted(place)
        word = _WORD.match(self._text, place)
        if word is None:
            raise NotJSON
        return word.start(), word.end(), word.end()

    def _quoted(self, place: int) -> tuple[int, int, int]:
        opening, begin = self._text[place], place + 1
        known, end = self._ended.get(opening, (0, -1))
        if not known <= begin <= end:
            body = _ENDS[opening].match(self._text, begin)
            assert body is not None
            end = body.end()
            self._ended[opening] = (begin, end)
        if self._text[end : end + 1] not in [*_QUOTES[opening]]:
            raise NotJSON
        return begin, end, end + 1

    def _blank(self, place: int) -> int:
        blank = _BLANK.match(self._text, place)
        assert blank is not None
        return blank.end()


def _unescaped(body: str) -> str:
    """The text of a string; a backslash that begins a LaTeX command or no JSON escape is kept."""

    def meant(escape: re.Match[str]) -> str:
        code = escape[1]
        if len(code) == 5:
            return chr(int(code[1:], 16))
        if code not in _ESCAPES or is_latex(body, escape.start()):
            return "\\" + code
        return _ESCAPES[code]

    text = _PAIR.sub(
        lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), _ESCAPE.sub(meant, body)
    )
    return _LONE.sub("\ufffd", text)

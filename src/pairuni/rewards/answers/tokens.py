"""Normalised text and its tokens, from which words and numbers are read."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

_FULL_WIDTH = {0xFF01 + place: 0x21 + place for place in range(94)} | {0x3000: " "}
_SUPERSCRIPTS = {ord(mark): f"^{digit}" for digit, mark in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}
_DASHES_AND_QUOTES = dict.fromkeys(map(ord, "\u2212\u2010\u2011\ufe63\uff0d"), "-") | {
    0x2044: "/",
    0x2019: "'",
    0x2018: "'",
}
_CHINESE_DIGITS = {numeral: digit for digit, numeral in enumerate("零一二三四五六七八九")} | {"两": 2}
_CHINESE_NUMBER = re.compile(
    r"(?<![第几每这那另零一二三四五六七八九十百千万两半])"  # not an ordinal, "this one" or a larger number
    r"(?:([一二三四五六七八九])?十([一二三四五六七八九])?"  # tens and ones
    r"|([零一二两三四五六七八九]))"  # or ones alone
    r"(?=[个只条张本辆头匹朵棵位名把座艘架双])"  # before a measure word
)
"""A number below 100: 三只, 十二个."""
_FULL_HOUR = re.compile(r"\b(\d{1,2}):00(?=\s?(?:[ap]\.?m\b|o'clock))", re.I)
_MINUS = re.compile(r"(?<![\w.)\]])[-–](?=[$€£¥]?\.?\d)")
_ONE_CHARACTER = {"<=": "≤", ">=": "≥", "!=": "≠"}
_INLINE_MATH = re.compile(r"\$(?=[^\s$])([^$]{1,500})(?<=\S)\$(?!\d)")  # but not "$5 and $6"
_THOUSANDS = re.compile(
    r"(?<![\d,.])\d{1,3}"
    r"(?:(?:,\d{3})++|(?:[\u00a0\u2009\u202f]\d{3})++)"  # 1,000 or 1 000 with a non-breaking or thin space
    r"(?!,?\d)"
)
_BRACKETED = re.compile(r"\[[^\[\]]*\]|\{[^{}]*\}")
BRACKETED_OR_IN_PARENTHESES = re.compile(rf"{_BRACKETED.pattern}|\([^()]*\)")

_LATIN = "A-Za-z\u00c0-\u024f\u0370-\u04ff"
_DIGITS = r"\d+(?:\.\d+)?|\.\d+"
_TOKEN = re.compile(
    rf"(?P<label>(?:[{_LATIN}]+\d)[{_LATIN}\d]*)"  # B3, H2O
    r"|(?P<compound>\d+(?::\d+)+(?:\.\d+)?|\d+(?:[./-]\d+){2,})"  # 5:30, 2020-01-05
    rf"|(?P<range>(?:\d+(?:\.\d+)?)[-–—]\d+(?:\.\d+)?)"  # 3-5
    rf"|(?P<number>(?:{_DIGITS})(?:[eE][+-]?\d+(?![{_LATIN}]))?(?:/\d+)?)"  # 7, .5, 1e3, 1/2
    r"|(?P<word>[^\W\d_]\.[^\W\d_]\.?(?![^\W\d_])"  # a.m.
    r"|[^\W\d_]+(?:'[^\W\d_]+)?)"  # cat, don't
    r"|(?P<arrow>(?<![-=])[-=]{1,20}>|[→⇒])"
    r"|(?P<sign><=|>=|!=|[<>≤≥≠±%$€£¥₹₩¢°^/–—]"
    r"|(?<=\d)\+(?!\s?[\w(]))"  # 3+, but not 3 + 4
    r"|(?P<stop>[,;:!?()\[\]{}\n]|\.(?=\s|$))",
)

_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
    "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
NUMBER_WORDS = {word: value for value, word in enumerate(_ONES)} | {
    word: 10 * value for value, word in enumerate(_TENS, start=2)
}


ARTICLES = frozenset({"a", "an", "the"})


def word_set(text: str) -> frozenset[str]:
    """The words of a text between spaces."""
    return frozenset(text.split())


@dataclass(frozen=True, slots=True)
class Token:
    """A word, number or sign of a text, as written.

    kind: label (B3, H2O), compound (5:30, 2020-01-05), range (3-5), number, word, sign, or stop, which ends a clause.
    joined: directly after the previous token. worded: a number that is written in words.
    """

    kind: str
    text: str
    joined: bool
    worded: bool = False

    @property
    def lower(self) -> str:
        return self.text.lower()


def fold(text: str) -> str:
    """The text with full-width letters, digits and punctuation in their ASCII forms."""
    return text.translate(_FULL_WIDTH)


def plain(text: str, *, lists: bool = False) -> str:
    """NFKC, ASCII hyphens and quotes, 1000 for 1,000, "minus" for minus signs, and no marks of inline maths.

    lists: commas in parentheses separate numbers, as in other brackets: "(100,200)" has two.
    """
    if not lists:
        text = re.sub(r"(?<=\d)(?=[¼½¾⅐-⅞])", " ", _CHINESE_NUMBER.sub(_chinese_number, text))
    brackets = BRACKETED_OR_IN_PARENTHESES if lists else _BRACKETED
    text = _without_thousands(text.translate(_SUPERSCRIPTS), brackets)
    text = unicodedata.normalize("NFKC", text).translate(_DASHES_AND_QUOTES)
    text = _INLINE_MATH.sub(r" \1 ", _FULL_HOUR.sub(r"\1", text))
    return _MINUS.sub(" minus ", text)


def _chinese_number(found: re.Match[str]) -> str:
    tens, ones, alone = (_CHINESE_DIGITS.get(part) for part in found.groups())
    return str(alone if alone is not None else 10 * (tens or 1) + (ones or 0))


def _without_thousands(text: str, brackets: re.Pattern[str]) -> str:
    """The text with 1,000 as 1000, except inside brackets, where commas separate list items."""
    parts = []
    place = 0
    for found in brackets.finditer(text):
        parts += [_THOUSANDS.sub(_joined, text[place : found.start()]), found[0]]
        place = found.end()
    return "".join([*parts, _THOUSANDS.sub(_joined, text[place:])])


def _joined(found: re.Match[str]) -> str:
    return re.sub(r"\D", "", found[0])


def tokenize(text: str) -> list[Token]:
    """The tokens of a text that ``plain`` returned."""
    found = []
    end = -1
    for match in _TOKEN.finditer(text):
        kind = "stop" if match.lastgroup == "arrow" else str(match.lastgroup)
        found.append(Token(kind, _ONE_CHARACTER.get(match[0], match[0]), match.start() == end))
        end = match.end()
    return found


def with_numerals(tokens: list[Token]) -> list[Token]:
    """The tokens with number words as numerals; a ten and the unit that follows it become one: forty-two, 42."""
    joined: list[Token] = []
    ten = 0
    for token in tokens:
        value = NUMBER_WORDS.get(token.lower) if token.kind == "word" else None
        if value is None:
            joined.append(token)
        elif ten and 0 < value < 10:
            joined[-1] = Token("number", str(ten + value), joined[-1].joined, worded=True)
        else:
            joined.append(Token("number", str(value), token.joined, worded=True))
        ten = value if value is not None and value >= 20 else 0
    return joined


@lru_cache(maxsize=128)
def normalise(text: str, *, lists: bool = False) -> str:
    """Lower case, plain punctuation, no articles, number words as numerals: "The  Forty-Two!" -> "42".

    What qualifies a number stays: signs such as $, % and <, ranges ("3-5"), times and scores ("5:30").
    lists: as in ``plain``.
    """
    words: list[str] = []
    for token in with_numerals(tokenize(plain(text, lists=lists))):
        word = token.lower.replace("–", "-").replace("—", "-")
        if token.kind == "label":
            words += re.findall(r"\d+|[^\W\d_]+", word)
        elif token.kind != "stop" and word not in ARTICLES and word not in {"^", "°", "/"}:
            words.append(word.replace(".", "") if token.kind == "word" else word)
    joined = re.sub(r"\bminus (?=\d|\.)", "-", " ".join(words))
    return re.sub(r"(?<![\w.-])(\d[\d.]*) (?:to|-) (-?\d[\d.]*)(?![\w.])", r"\1-\2", joined)

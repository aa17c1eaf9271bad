"""Texts as words: one way of writing letters and digits, and the tokens that words and numbers are read from."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

_FULL_WIDTH = {0xFF01 + place: 0x21 + place for place in range(94)} | {0x3000: " "}
_SUPERSCRIPTS = {ord(mark): f"^{digit}" for digit, mark in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}
_DASHES = dict.fromkeys(map(ord, "\u2212\u2010\u2011\ufe63\uff0d"), "-") | {
    0x2044: "/",
    0x2019: "'",
    0x2018: "'",
}
_CHINESE_DIGITS = {numeral: digit for digit, numeral in enumerate("零一二三四五六七八九")} | {"两": 2}
_CHINESE_NUMBER = re.compile(
    r"(?<![第几每这那另零一二三四五六七八九十百千万两半])"
    r"(?:([一二三四五六七八九])?十([一二三四五六七八九])?|([零一二两三四五六七八九]))"
    r"(?=[个只条张本辆头匹朵棵位名把座艘架双])"
)
"""A number below 100 in front of a measure word: 三只, 十二个."""
_FULL_HOUR = re.compile(r"\b(\d{1,2}):00(?=\s?(?:[ap]\.?m\b|o'clock))", re.I)
_TWO_CHARACTERS = {"<=": "≤", ">=": "≥", "!=": "≠"}
_INLINE_MATH = re.compile(r"\$(?=[^\s$])([^$]{1,500})(?<=\S)\$(?!\d)")
_THOUSANDS = re.compile(r"(?<![\d,.])\d{1,3}(?:(?:,\d{3})++|(?:[\u00a0\u2009\u202f]\d{3})++)(?!,?\d)")
_BRACKETED = re.compile(r"\[[^\[\]]*\]|\{[^{}]*\}")
_BRACKETED_OR_IN_PARENTHESES = re.compile(rf"{_BRACKETED.pattern}|\([^()]*\)")

_LATIN = "A-Za-z\u00c0-\u024f\u0370-\u04ff"
_DIGITS = r"\d+(?:\.\d+)?|\.\d+"
_TOKEN = re.compile(
    rf"(?P<label>(?:[{_LATIN}]+\d)[{_LATIN}\d]*)"
    r"|(?P<compound>\d+(?::\d+)+(?:\.\d+)?|\d+(?:[./-]\d+){2,})"
    rf"|(?P<range>(?:\d+(?:\.\d+)?)[-–—]\d+(?:\.\d+)?)"
    rf"|(?P<number>(?:{_DIGITS})(?:[eE][+-]?\d+(?![{_LATIN}]))?(?:/\d+)?)"
    r"|(?P<word>[^\W\d_]\.[^\W\d_]\.?(?![^\W\d_])|[^\W\d_]+(?:'[^\W\d_]+)?)"
    r"|(?P<arrow>(?<![-=])[-=]{1,20}>|[→⇒])"
    r"|(?P<sign><=|>=|!=|[<>≤≥≠±%$€£¥₹₩¢°^/–—]|(?<=\d)\+(?!\s?[\w(]))"
    r"|(?P<stop>[,;:!?()\[\]{}\n]|\.(?=\s|$))",
)

_UNITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
    "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
NUMBER_WORDS = {word: value for value, word in enumerate(_UNITS)} | {
    word: 10 * value for value, word in enumerate(_TENS, start=2)
}


def words_of(text: str) -> frozenset[str]:
    """The words of a list that is written as a text."""
    return frozenset(text.split())


ARTICLES = frozenset({"a", "an", "the"})


@dataclass(frozen=True, slots=True)
class Token:
    """A word, a number or a sign of a text, as it is written there.

    kind: label (B3, H2O), compound (5:30, 2020-01-05), range (3-5), number, word, sign, or stop, which ends a clause.
    joined: nothing stands between it and the token in front. worded: a number that is written in words.
    """

    kind: str
    text: str
    joined: bool
    worded: bool = False

    @property
    def lower(self) -> str:
        return self.text.lower()


def fold(text: str) -> str:
    """The text with full-width letters, digits and punctuation as their plain forms."""
    return text.translate(_FULL_WIDTH)


def plain(text: str) -> str:
    """Compatible characters, hyphens and quotes as one, $...$ without its marks, minus signs as the word minus."""
    text = re.sub(r"(?<=\d)(?=[¼½¾⅐-⅞])", " ", _CHINESE_NUMBER.sub(_chinese_number, text))
    text = _without_thousands(text.translate(_SUPERSCRIPTS), brackets=_BRACKETED)
    return _signed(unicodedata.normalize("NFKC", text).translate(_DASHES))


def _as_lists(text: str) -> str:
    """As ``plain``, but commas inside any brackets part numbers: "(100,200)" holds two."""
    text = _without_thousands(text.translate(_SUPERSCRIPTS), brackets=_BRACKETED_OR_IN_PARENTHESES)
    return _signed(unicodedata.normalize("NFKC", text).translate(_DASHES))


def _chinese_number(found: re.Match[str]) -> str:
    tens, ones, alone = (_CHINESE_DIGITS.get(part) for part in found.groups())
    return str(alone if alone is not None else 10 * (tens or 1) + (ones or 0))


def _signed(text: str) -> str:
    text = _FULL_HOUR.sub(r"\1", text)
    text = _INLINE_MATH.sub(r" \1 ", text)
    return re.sub(r"(?<![\w.)\]])[-–](?=[$€£¥]?\.?\d)", " minus ", text)


def _without_thousands(text: str, brackets: re.Pattern[str]) -> str:
    """The text with 1,000 as 1000, but as it is inside brackets, where commas part the items of a list."""
    parts = []
    place = 0
    for found in brackets.finditer(text):
        parts += [_THOUSANDS.sub(_joined, text[place : found.start()]), found[0]]
        place = found.end()
    return "".join([*parts, _THOUSANDS.sub(_joined, text[place:])])


def _joined(found: re.Match[str]) -> str:
    return re.sub(r"\D", "", found[0])


def tokens(text: str) -> list[Token]:
    """The tokens of a text that ``plain`` has been through."""
    found = []
    end = -1
    for match in _TOKEN.finditer(text):
        kind = "stop" if match.lastgroup == "arrow" else str(match.lastgroup)
        found.append(Token(kind, _TWO_CHARACTERS.get(match[0], match[0]), match.start() == end))
        end = match.end()
    return found


def with_numerals(found: list[Token]) -> list[Token]:
    """The tokens with number words as numerals, and a ten and a unit that follow each other as one: forty-two, 42."""
    joined: list[Token] = []
    ten = 0
    for token in found:
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

    What says something about a number stays: signs such as $, % and <, ranges ("3-5"), times and scores ("5:30").
    lists: commas inside any brackets part numbers.
    """
    words: list[str] = []
    for token in with_numerals(tokens(_as_lists(text) if lists else plain(text))):
        word = token.lower.replace("–", "-").replace("—", "-")
        if token.kind == "label":
            words += re.findall(r"\d+|[^\W\d_]+", word)
        elif token.kind != "stop" and word not in ARTICLES and word not in {"^", "°", "/"}:
            words.append(word.replace(".", "") if token.kind == "word" else word)
    joined = re.sub(r"\bminus (?=\d|\.)", "-", " ".join(words))
    return re.sub(r"(?<![\w.-])(\d[\d.]*) (?:to|-) (-?\d[\d.]*)(?![\w.])", r"\1-\2", joined)


def same_words(one: str, other: str) -> bool:
    """Whether two texts are equal but for case, articles, punctuation and the way that numbers are written; what
    has neither words nor numbers, such as "+", is compared as it is."""
    words = normalise(one), normalise(other)
    if not any(words):
        return plain(one).strip().lower() == plain(other).strip().lower()
    return words[0] == words[1] or (
        all("," in text and _BRACKETED_OR_IN_PARENTHESES.search(text) for text in (one, other))
        and normalise(one, lists=True) == normalise(other, lists=True)
    )

"""Reading an answer out of a reply: tags, option letters, options of a question, numbers and number words.

Words are compared as words, numbers as exact fractions; formulas are ``rewards.mathematics``' work.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping
from fractions import Fraction

_UNITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
    "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_NUMBER_WORDS = {word: value for value, word in enumerate(_UNITS)} | {
    word: 10 * value for value, word in enumerate(_TENS, start=2)
}

_STATEMENT = re.compile(
    r"\b(?:answer|option|choice)\b(?:\s+\w+){0,3}?\s*(?:\bis\b|\bwould be\b|[:=])\s*:?\s*(?P<said>[^\n]+)",
    re.I,
)
_MARKER = re.compile(r"(?<![A-Za-z0-9])\(?([A-Z])[.):]\s*(?=\S)")
_AFTER_OPTIONS = re.compile(
    r"\n|(?:^|\s)(?:please\s+)?(?:answer (?:with|the)|select|choose)\b.*", re.I | re.S
)
_LETTER = re.compile(r"(?<![A-Za-z0-9'’])[A-Z](?![A-Za-z0-9'’])")


def final_answer(reply: str) -> str:
    """The part of a reply that answers.

    In order: the last <answer>...</answer>, an <answer> that the length limit cut off, the last
    ``\\boxed{...}``, else the reply without its <think> part (empty when the thinking never ended).
    """
    tagged = re.findall(r"<answer>(.*?)</answer>", reply, re.S | re.I)
    if tagged:
        return str(tagged[-1]).strip()
    if opened := re.search(r"<answer>(?!.*<answer>)(.*)$", reply, re.S | re.I):
        return opened[1].strip()
    rest = re.sub(r"<think>.*?(?:</think>|$)", "", reply, flags=re.S | re.I)
    boxed = _boxed(rest)
    return rest.strip() if boxed is None else boxed.strip()


def _boxed(text: str) -> str | None:
    """What the last ``\\boxed{...}`` that is closed holds, braces inside it included."""
    for match in reversed(list(re.finditer(r"\\boxed\s*\{", text))):
        depth = 1
        for place in range(match.end(), len(text)):
            depth += {"{": 1, "}": -1}.get(text[place], 0)
            if depth == 0:
                return text[match.end() : place]
    return None


def stated(text: str) -> str:
    """What follows the statement "the answer is ...", or the text itself when it states nothing."""
    found = [match["said"] for match in _STATEMENT.finditer(text)]
    return " ".join(found) if found else text


def parse_options(question: str) -> dict[str, str]:
    """Options in a question's text, "A. Stripes B. Polka dots", as letter -> text; empty when it has none."""
    markers = list(_MARKER.finditer(question))
    best: list[re.Match[str]] = []
    for start, first in enumerate(markers):
        if first[1] != "A":
            continue
        chain = [first]
        for marker in markers[start + 1 :]:
            if marker[1] == chr(ord(chain[-1][1]) + 1):
                chain.append(marker)
        if len(chain) >= max(2, len(best)):
            best = chain
    ends = [*(marker.start() for marker in best[1:]), len(question)]
    options = {}
    for marker, end in zip(best, ends, strict=False):
        text = question[marker.end() : end]
        if end == len(question):
            text = _AFTER_OPTIONS.split(text, maxsplit=1)[0]
        options[marker[1]] = text.strip().rstrip(".,;").strip()
    return options


def chosen_letters(text: str, options: Mapping[str, str]) -> set[str]:
    """The letters that an answer claims, by letter or by an option's text; two or more are ambiguous."""
    bare = text.strip().strip("*_`\"'“”[]() .:,").upper()
    if len(bare) == 1 and bare in options:
        return {bare}
    if match := re.match(r"\W*([A-Za-z])(?:[.):]\)?|\*\*)\s*(.*)", text.strip(), re.S):
        letter, rest = match[1].upper(), match[2]
        if letter in options:
            return {letter} | _options_equal(rest, options) | _letters(rest, options)
    text = stated(text)
    if text.strip(" .()*").upper() in options:
        return {text.strip(" .()*").upper()}
    return _letters(text, options) or _options_equal(text, options) or _options_within(text, options)


def normalise(text: str) -> str:
    """Lower case, plain punctuation, no articles, number words as numerals: "The  Forty-Two!" -> "42"."""
    text = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
    text = re.sub(r"(?<!\w)[-–](?=\.?\d)", "minus ", text)
    tokens = re.findall(r"\d+(?:\.\d+)?(?:/\d+)?|\.\d+|[^\W\d_]+(?:'[a-z]+)?|%", text)
    joined = " ".join(_join_number_words([token for token in tokens if token not in {"a", "an", "the"}]))
    return re.sub(r"\bminus (?=\d|\.)", "-", joined)


def numbers(text: str) -> list[Fraction]:
    """All numbers of a text, in order, as exact fractions; "50%" is 50 with its sign left to the words."""
    found = []
    for token in normalise(text).split():
        match = re.fullmatch(r"(-)?(\d*\.?\d+)(?:/(\d+))?", token)
        if match and int(match[3] or 1) != 0:
            value = Fraction(match[2]) / int(match[3] or 1)
            found.append(-value if match[1] else value)
    return found


def _join_number_words(tokens: list[str]) -> list[str]:
    joined: list[str] = []
    ten_open = False
    for token in tokens:
        value = _NUMBER_WORDS.get(token)
        if value is None:
            joined.append(token)
        elif ten_open and 0 < value < 10:
            joined[-1] = str(int(joined[-1]) + value)
        else:
            joined.append(str(value))
        ten_open = value is not None and value >= 20
    return joined


def _letters(text: str, options: Collection[str]) -> set[str]:
    letters = set()
    for match in _LETTER.finditer(text):
        before, after = text[: match.start()].rstrip(), text[match.end() :]
        opens_sentence = not before or before[-1] in ".!?\n"
        is_word = match[0] in "AI" and opens_sentence and re.match(r"\s+[a-z]", after)
        if match[0] in options and not is_word and not (match[0] == "I" and after.startswith(" ")):
            letters.add(match[0])
    letters |= {found.upper() for found in re.findall(r"\(([a-z])\)", text) if found.upper() in options}
    return letters


def _options_equal(text: str, options: Mapping[str, str]) -> set[str]:
    wanted = normalise(text)
    return {letter for letter, option in options.items() if wanted and normalise(option) == wanted}


def _options_within(text: str, options: Mapping[str, str]) -> set[str]:
    """Options whose words stand in the text; one that lies inside a longer option's words does not count."""
    words = normalise(text).split()
    spans: dict[str, set[tuple[int, int]]] = {}
    for letter, option in options.items():
        phrase = normalise(option).split()
        for start in range(len(words) - len(phrase) + 1):
            if phrase and words[start : start + len(phrase)] == phrase:
                spans.setdefault(letter, set()).add((start, start + len(phrase)))
    every = {span for found in spans.values() for span in found}
    longest = {s for s in every if not any(o != s and o[0] <= s[0] and s[1] <= o[1] for o in every)}
    return {letter for letter, found in spans.items() if found & longest}

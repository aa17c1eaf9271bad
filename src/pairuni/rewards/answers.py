"""Reading an answer out of a reply: tags, option letters, options of a question, numbers and number words.

Words are compared as words, numbers as exact fractions; formulas are ``rewards.mathematics``' work.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping
from fractions import Fraction

from pairuni.chat.reasoning import without_reasoning

_UNITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
    "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_NUMBER_WORDS = {word: value for value, word in enumerate(_UNITS)} | {
    word: 10 * value for value, word in enumerate(_TENS, start=2)
}

_SCALES = {"hundred": 100, "thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000}
_PARTS = {"half": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "eighth": 8, "tenth": 10}
_PARTS_PLURAL = {"halves": 2} | {f"{word}s": parts for word, parts in _PARTS.items()}
_MINUS = str.maketrans(dict.fromkeys("\u2212\u2010\u2011", "-") | {"\u2044": "/"})

_STATEMENT = re.compile(
    r"\b(?:answer|option|choice)\b(?:\s+\w+){0,3}?\s*(?:\bis\b|\bwould be\b|[:=])\s*:?\s*(?P<said>[^\n]+)",
    re.I,
)
_MARKER = re.compile(r"(?<![A-Za-z0-9])\(?([A-Z])[.):]\s*(?=\S)")
_AFTER_OPTIONS = re.compile(
    r"\n|(?:^|\s)(?:please\s+)?(?:answer (?:with|the)|select|choose)\b.*", re.I | re.S
)
_LABEL = re.compile(r"[^\W\d_]\d\w*")
_LETTER = re.compile(r"(?<![A-Za-z0-9'’])[A-Z](?![A-Za-z0-9'’])")
_AFTER_A_LETTER = (
    "and|or|nor|but|not|if|because|since|as|so|then|for|with|in|on|to|of|is|was|are|be|has|seems|looks|fits|"
    "matches|would|could|should|must|may|might|can|will|shows|says|instead|rather"
)
_ARTICLE = re.compile(rf"\s+(?!(?:{_AFTER_A_LETTER})\b)[a-z]")
_DENIAL = re.compile(
    r"\b(?:not|never|neither|nor|without|except|cannot|\w+n['’]t|(?:anything|everything|nothing|all) but|none of|"
    r"(?:other|rather) than|instead of)\b",
    re.I,
)
_DENIED = re.compile(rf"{_DENIAL.pattern}.*?(?=[,;\n]|[.!?](?:\s|$)|\bbut\b|$)", re.I)


def final_answer(reply: str) -> str:
    """The part of a reply that answers.

    After its reasoning, in order: the last <answer>...</answer>, an <answer> that the length limit cut off, the
    last ``\\boxed{...}``, else the whole of it (empty when the reasoning never ended).
    """
    reply = without_reasoning(reply)
    tagged = re.findall(r"<answer>(.*?)</answer>", reply, re.S | re.I)
    if tagged:
        return str(tagged[-1]).strip()
    if opened := re.search(r"<answer>(?!.*<answer>)(.*)$", reply, re.S | re.I):
        return opened[1].strip()
    boxed = _boxed(reply)
    return reply.strip() if boxed is None else boxed.strip()


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


def undenied(text: str) -> str:
    """A text without what it denies, each to the end of its clause: "It is not A, but B" -> "It is , but B"."""
    return _DENIED.sub(" ", text)


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
    """The letters that an answer claims, by letter or by an option's text; what it denies is not claimed.

    Two or more are an ambiguous answer, unless the question has several right options.
    """
    bare = text.strip().strip("*_`\"'“”[]() .:,").upper()
    several = len(set(bare)) == len(bare) and not _options_literal(text, options)
    if set(bare) <= set(options) and (len(bare) == 1 or (bare and several)):
        return set(bare)
    if match := re.match(r"\W*([A-Za-z])(?:[.):]\)?|\*\*)\s*(.*)", text.strip(), re.S):
        letter, rest = match[1].upper(), match[2]
        if letter in options:
            return {letter} | _options_equal(rest, options) | _letters(rest, options)
    text = stated(text)
    if text.strip(" .()*").upper() in options:
        return {text.strip(" .()*").upper()}
    claimed = undenied(text)
    named = text if any(_DENIAL.search(option) for option in options.values()) else claimed
    return (
        _options_literal(text, options)
        or _letters(claimed, options)
        or _options_equal(text, options)
        or _options_within(named, options)
    )


def same_words(one: str, other: str) -> bool:
    """Whether two texts are equal but for case, articles, punctuation and the way that numbers are written; what
    has neither words nor numbers, such as "+", is compared as it is."""
    words = normalise(one), normalise(other)
    return words[0] == words[1] if any(words) else _plain(one).strip() == _plain(other).strip()


def normalise(text: str) -> str:
    """Lower case, plain punctuation, no articles, number words as numerals: "The  Forty-Two!" -> "42"."""
    text = _plain(text)
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
    text = re.sub(r"(?<!\w)[-–](?=\.?\d)", "minus ", text)
    tokens = re.findall(r"\d+(?:\.\d+)?(?:/\d+)?|\.\d+|[^\W\d_]+(?:'[a-z]+)?|%", text)
    joined = " ".join(_join_number_words([token for token in tokens if token not in {"a", "an", "the"}]))
    return re.sub(r"\bminus (?=\d|\.)", "-", joined)


def numbers(text: str) -> list[Fraction]:
    """All numbers of a text, in order, as exact fractions: "two hundred and one" is 201, "two thirds" 2/3, "50%" 50
    with its sign left to the words. Digits of a label ("B3", "H2O") are none."""
    found: list[list[Fraction]] = []
    open_below = 0  # what may still be added to the last number: after "two hundred", anything under 100
    counted = False
    for token in normalise(_LABEL.sub(" ", text)).split():
        value = _number(token)
        if value is not None and 0 < value < open_below:
            found[-1].append(value)
        elif value is not None:
            found.append([value])
        elif token in _SCALES and (counted or open_below):
            found[-1] = [part * _SCALES[token] if part < _SCALES[token] else part for part in found[-1]]
        elif token in _SCALES:
            found.append([Fraction(_SCALES[token])])
        elif counted and token in (_PARTS if found[-1] == [1] else _PARTS_PLURAL):
            found[-1] = [sum(found[-1], Fraction()) / (_PARTS | _PARTS_PLURAL)[token]]
        if token != "and":
            open_below = _SCALES.get(token, 0)
        counted = value is not None
    return [sum(parts, Fraction()) for parts in found]


def _number(token: str) -> Fraction | None:
    match = re.fullmatch(r"(-)?(\d*\.?\d+)(?:/(\d+))?", token)
    if match is None or int(match[3] or 1) == 0:
        return None
    value = Fraction(match[2]) / int(match[3] or 1)
    return -value if match[1] else value


def _plain(text: str) -> str:
    """Lower case, compatible characters and hyphens as one."""
    text = re.sub(r"(?<=\d)(?=[¼½¾⅐-⅞])", " ", text)
    return unicodedata.normalize("NFKC", text).translate(_MINUS).lower().replace("’", "'")


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
        is_word = match[0] in "AI" and opens_sentence and _ARTICLE.match(after)
        if match[0] in options and not is_word and not (match[0] == "I" and after.startswith(" ")):
            letters.add(match[0])
    letters |= {found.upper() for found in re.findall(r"\(([a-z])\)", text) if found.upper() in options}
    return letters


def _options_literal(text: str, options: Mapping[str, str]) -> set[str]:
    """Options that are the text letter for letter, whatever letters they name: "C. Both A and B"."""
    return {letter for letter, option in options.items() if option and option == text.strip().rstrip(".")}


def _options_equal(text: str, options: Mapping[str, str]) -> set[str]:
    return {letter for letter, option in options.items() if text.strip() and same_words(text, option)}


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

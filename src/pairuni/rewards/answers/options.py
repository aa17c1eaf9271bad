"""Questions with options: the options in a question, and the letters that an answer chooses."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping

from pairuni.rewards.answers.claims import DENIAL_OR_FALSE, RETRACTING, named_correct, statements, undenied
from pairuni.rewards.answers.tokens import fold, normalise
from pairuni.rewards.answers.words import same_words

_MARKERS = (
    re.compile(
        r"(?<![A-Za-z0-9])(?:\(([A-Z])\)|\[([A-Z])\]|([A-Z])[.):、])"  # (A) [A] A. A) A: A、
        r"\s*(?=\S)"
    ),
    re.compile(
        r"(?:(?<![A-Za-z0-9])(?:\(([a-z])\)|([a-z])\))"  # (a) a)
        r"|(?:(?<=\n)|^)[ \t]*([a-z])[.:、])"  # a. at the start of a line
        r"\s*(?=\S)"
    ),
)
"""Marks before options, in upper and in lower case."""
_INDENT = re.compile(r"^[^\S\n]*", re.M)
_AFTER_OPTIONS = re.compile(
    r"\n"
    r"|(?:^|\s)(?:please\s+)?(?:answer (?:with|the)|select|choose)\b.*"  # Answer with the option's letter ...
    r"|\s请.*",
    re.I | re.S,
)

_LETTER = re.compile(r"(?<![A-Za-z0-9'’])[A-Z](?![A-Za-z0-9'’])")
_SMALL_LETTER = re.compile(
    r"\(([a-z])\)"
    r"|\b(?:option|answer|choice|letter)\s([a-z])(?=\s{0,3}(?:[.,;:)\n]|$))",  # option b.
    re.I,
)
_LEADING_LETTER = re.compile(
    r"\W*+([A-Za-z])"
    r"(?:\)?[.:、](?=\s|\*|$)\)?"  # B.  B).  B:
    r"|\)"  # B)
    r"|(?<=[A-Z])[.:、]"  # B.polka dots
    r"|\*\*"  # **B**
    r"|[^\S\n]*+\n"  # B at the end of a line
    r"|\s+[-–—]\s)\s*"  # B - polka dots
)
_LONE_LETTER = re.compile(r"\W*([A-Za-z])(?=\W*$|[,;:)]|\s+(?:because|since|as)\b)")
_ONLY_LETTERS = re.compile(
    r"(?:\W|\b(?:and|or|both|also|maybe|perhaps|possibly|either)\b|(?<!\w)[A-Z](?!\w))*+", re.I
)
_ANOTHER_LETTER = re.compile(r"\W*(?:(?:and|or|and/or|maybe|perhaps|possibly)\W+)+\(?[A-Z](?!\w)", re.I)
_ALSO = re.compile(r"\b(?:also|equally|alternatively|as well|too|possibly|possible|either)\b", re.I)
_LISTED_LETTER = re.compile(r"\n[^\w\n]*[A-Z](?:[.):、]|[^\w\n]*(?:\n|$))")
_LETTER_ON_ITS_LINE = re.compile(r"\n[^\w\n]*[A-Z][^\w\n]*(?:\n|$)")
_INNER_MARKER = re.compile(r"\s\(?([A-Z])[.):、]\s*")

_AFTER_A_LETTER = (
    "and|or|nor|but|not|if|because|since|as|so|then|for|with|in|on|to|of|is|was|are|be|has|seems|looks|fits|"
    "matches|would|could|should|must|may|might|can|will|shows|says|instead|rather"
)
_NOUN_AFTER_ARTICLE = re.compile(rf"\s{{1,20}}(?!(?:{_AFTER_A_LETTER})\b)[a-z]")
"""What follows "A" where it is an article: "A man", but not "A is"."""
_NAMES_A_POINT = re.compile(
    r"(?:\b(?:angle|side|line|segment|point|vertex|triangle|circle)s?|[∠△⊙])\s?\Z", re.I
)
_EQUALS_NUMBER = re.compile(r"\s?(?:=|(?:is|equals)(?:\s+equal\s+to)?)\s*[-\d.√\\]")
"""With _NAMES_A_POINT, what surrounds a letter of a figure: "angle B", "B = 70"."""

_REASON = re.compile(
    r"(?:\b(?:because|since|unlike|whereas|while|compared (?:to|with)|versus|given that)|,\s+as)\b"
    r"(?:[^.!?\n]|[.!?](?!\s|$))*+",  # to the end of the sentence
    re.I,
)
_STARTS_RETRACTION = re.compile(rf"\W*(?:{RETRACTING})\b", re.I)
_SENTENCE_END = re.compile(r"\n|[.!?](?=\s|$)")
_SENTENCE_END_NOT_MARKER = re.compile(r"\n|(?<!\s[A-Z])[.!?](?=\s|$)")
_EDGES = " *_`\"'“”[]().:,。，、：；！!;#$<>\n\t"


def parse_options(question: str) -> dict[str, str]:
    """The options in a question's text: letter -> text, letters in upper case; empty if it has none.

    "A. Stripes B. Polka dots", also with ) : 、 or full-width marks, in brackets, and as a) or (a).
    """
    question = fold(question)
    markers = [list(pattern.finditer(question)) for pattern in _MARKERS]
    starts = {place for line in _INDENT.finditer(question) for place in line.span()}
    at_line_starts = [[one for one in found if one.start() in starts] for found in markers]
    best = max(map(_longest_chain, [*at_line_starts, *markers]), key=len)
    ends = [*(marker.start() for marker in best[1:]), len(question)]
    options = {}
    for marker, end in zip(best, ends, strict=False):
        text = question[marker.end() : end]
        if end == len(question):
            text = _AFTER_OPTIONS.split(text, maxsplit=1)[0]
        options[_letter_of(marker)] = text.strip().rstrip(".,;，；。").strip()
    return options


def _letter_of(marker: re.Match[str]) -> str:
    return str(marker[marker.lastindex or 0]).upper()


def _longest_chain(markers: list[re.Match[str]]) -> list[re.Match[str]]:
    """The longest sequence of markers A, B, C, ..., the last one of equal length; empty below two."""
    places: dict[str, list[int]] = {}
    for place, marker in enumerate(markers):
        places.setdefault(_letter_of(marker), []).append(place)
    best: list[int] = []
    for start in places.get("A", []):
        chain = [start]
        for letter in map(chr, range(ord("B"), ord("Z") + 1)):
            later = places.get(letter, [])
            at = bisect_right(later, chain[-1])
            if at == len(later):
                break
            chain.append(later[at])
        if len(chain) >= max(2, len(best)):
            best = chain
    return [markers[place] for place in best]


def chosen_letters(text: str, options: Mapping[str, str]) -> set[str]:
    """The letters that an answer chooses, by letter or by an option's text; denied options are not chosen.

    Two or more are an ambiguous answer, unless the question has several right options. A letter at the start, or in
    a statement such as "the answer is B", decides: the text after it explains it, unless it takes it back.
    """
    bare = text.strip(_EDGES).upper()
    is_option = bool(_options_verbatim(text, options))
    are_letters = len(bare) <= len(options) and len(set(bare)) == len(bare) and not is_option
    if set(bare) <= set(options) and (len(bare) == 1 or (bare and are_letters)):
        return set(bare)
    if not is_option:
        leading = _LEADING_LETTER.match(text)
        if leading and (letter := leading[1].upper()) in options:
            return {letter} | _conflicting(text[leading.end() :], leading[0], options)
    stated = [letters for one in statements(text) if (letters := _named(one, options))]
    stated += [letters for one in named_correct(text) if (letters := _letters(one, options))]
    return set.union(*stated) if stated else _named(text, options)


def _conflicting(rest: str, leading: str, options: Mapping[str, str]) -> set[str]:
    """The letters in the text after a leading letter that conflict with it, or repeat it."""
    sentence = _SENTENCE_END.split(rest, maxsplit=1)[0]
    letters = _options_equal(sentence, options)
    letters |= _marked_options(_SENTENCE_END_NOT_MARKER.split(rest, maxsplit=1)[0], options)
    if _ONLY_LETTERS.fullmatch(sentence) or _ANOTHER_LETTER.match(rest) or _ALSO.search(sentence):
        letters |= _letters(sentence, options)
    if "\n" in leading:  # a list of options after an empty line explains the answer
        is_apart = rest.startswith("\n") or leading.count("\n") > 1
        listed = (_LETTER_ON_ITS_LINE if is_apart else _LISTED_LETTER).match("\n" + rest.lstrip("\n"))
    else:
        listed = _LISTED_LETTER.match(rest, len(sentence))
    letters |= _letters(listed[0], options) if listed else set()
    for one in statements(rest):
        letters |= _named(one, options)
    for later in (rest, rest[len(sentence) :]):
        if _STARTS_RETRACTION.match(later):
            letters |= _letters(undenied(later), options)
    return letters


def _marked_options(line: str, options: Mapping[str, str]) -> set[str]:
    """The options whose marker and text occur in a line: "Polka dots C. Dots"."""
    found = set()
    for marker in _INNER_MARKER.finditer(line):
        option = options.get(marker[1], "")
        if option and line[marker.end() :].lower().startswith(option.lower()):
            found.add(marker[1])
    return found


def _named(text: str, options: Mapping[str, str]) -> set[str]:
    """The options that a text, or the statement in it, names and does not deny."""
    verbatim = _options_verbatim(text, options)
    if _ONLY_LETTERS.fullmatch(text) and not verbatim:
        text = text.upper()
    if (lone := _LONE_LETTER.match(text)) and (letter := lone[1].upper()) in options and len(text) < 200:
        rest = text[lone.end() :].lstrip(") ")
        option = options[letter]
        if option and (rest.startswith(option) or option.startswith(rest)):
            rest = rest[len(option) :]
        return {letter} | _letters(_REASON.sub("", undenied(rest)), options)
    claimed = undenied(text)
    denying = {letter: option for letter, option in options.items() if DENIAL_OR_FALSE.search(option)}
    return (
        _options_verbatim(text, options)
        or _letters(_REASON.sub("", claimed), options)
        or _options_equal(text, options)
        or _options_within(claimed, options.items() - denying.items())
        | _options_within(text, denying.items())
    )


def _letters(text: str, options: Mapping[str, str]) -> set[str]:
    """The letters of options in a text, except those that are words or points of a figure."""
    letters = set()
    for match in _LETTER.finditer(text):
        before = text[max(0, match.start() - 20) : match.start()].rstrip()
        opens_sentence = not before or before[-1] in ".!?\n"
        is_article = match[0] in "AI" and opens_sentence and _NOUN_AFTER_ARTICLE.match(text, match.end())
        is_pronoun = match[0] == "I" and text.startswith(" ", match.end())
        in_figure = any(options.values()) and (
            _NAMES_A_POINT.search(before) or _EQUALS_NUMBER.match(text, match.end())
        )
        if match[0] in options and not is_article and not is_pronoun and not in_figure:
            letters.add(match[0])
    small = {(found[1] or found[2]).upper() for found in _SMALL_LETTER.finditer(text)}
    return letters | (small & set(options))


def _options_verbatim(text: str, options: Mapping[str, str]) -> set[str]:
    """Options that are exactly the text, whatever letters they name: "C. Both A and B"."""
    return {letter for letter, option in options.items() if option and option == text.strip().rstrip(".")}


def _options_equal(text: str, options: Mapping[str, str]) -> set[str]:
    return {letter for letter, option in options.items() if text.strip() and same_words(text, option)}


def _options_within(text: str, options: Iterable[tuple[str, str]]) -> set[str]:
    """Options whose words occur in the text, except inside the words of a longer option."""
    words = f" {normalise(text)} ".replace("'s ", " ")
    spans = sorted(
        (start, -end, letter)
        for letter, option in options
        if (phrase := normalise(option).replace("'s ", " "))
        for start, end in _occurrences(f" {phrase} ", words)
    )
    letters = set()
    reach = -1
    widest = (-1, -1)
    for start, negative, letter in spans:
        if -negative > reach or (start, -negative) == widest:
            letters.add(letter)
            widest = (start, -negative)
        reach = max(reach, -negative)
    return letters


def _occurrences(phrase: str, words: str) -> Iterator[tuple[int, int]]:
    """Spans of a phrase in words, both with spaces around them."""
    at = words.find(phrase)
    while at >= 0:
        yield at, at + len(phrase)
        at = words.find(phrase, at + len(phrase) - 1)

"""Reading an answer out of a reply: its marks, and the letters of the options that it chooses."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping

from pairuni.chat.reasoning import without_reasoning
from pairuni.rewards.answers.claims import DENYING, TURNING, named_correct, statements, undenied
from pairuni.rewards.answers.words import fold, normalise, same_words

_TAG = re.compile(r"<(?P<close>/?)\s?(?:answer|final_answer|conclusion)\s?>", re.I)
_BOX = re.compile(r"<\|begin_of_box\|>(?P<held>.*?)(?:<\|end_of_box\|>|$)", re.S)
_BRACE = re.compile(r"\\f?box(?:ed)?\s*+\{|[{}]")
_TEXT_COMMAND = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|normal)?|math(?:rm|bf|it|sf|tt|normal)|mbox|emph|bm|boldsymbol|operatorname\*?)"
    r"\s*+\{([^{}]*)\}"
)
_LATEX = (
    (re.compile(r"\\(?:left|right|bigl|bigr|displaystyle)(?![a-zA-Z])"), ""),
    (re.compile(r"\^\s*+(?:\{\s*+\\circ\s*+\}|\\circ(?![a-zA-Z]))|\\degree(?![a-zA-Z])"), "°"),
    (re.compile(r"\\[,;:!]|\\(?=\s)|(?<=[\d}])~(?=[\\A-Za-z])"), " "),
    (re.compile(r"\\([%$#&])"), r"\1"),
    (re.compile(r"(?<=\d)\{,\}(?=\d{3})"), ","),
)

_MARKERS = (
    re.compile(r"(?<![A-Za-z0-9])(?:\(([A-Z])\)|\[([A-Z])\]|([A-Z])[.):、])\s*(?=\S)"),
    re.compile(r"(?:(?<![A-Za-z0-9])(?:\(([a-z])\)|([a-z])\))|(?:(?<=\n)|^)[ \t]*([a-z])[.:、])\s*(?=\S)"),
)
"""In front of options: A. A) A: A、 (A) [A], and in lower case a) (a), at the start of a line a. too."""
_INDENT = re.compile(r"^[^\S\n]*", re.M)
_AFTER_OPTIONS = re.compile(
    r"\n|(?:^|\s)(?:please\s+)?(?:answer (?:with|the)|select|choose)\b.*|\s请.*", re.I | re.S
)
_LETTER = re.compile(r"(?<![A-Za-z0-9'’])[A-Z](?![A-Za-z0-9'’])")
_AFTER_A_LETTER = (
    "and|or|nor|but|not|if|because|since|as|so|then|for|with|in|on|to|of|is|was|are|be|has|seems|looks|fits|"
    "matches|would|could|should|must|may|might|can|will|shows|says|instead|rather"
)
_ARTICLE = re.compile(rf"\s{{1,20}}(?!(?:{_AFTER_A_LETTER})\b)[a-z]")
_LEADING = re.compile(
    r"\W*+([A-Za-z])(?:\)?[.:、](?=\s|\*|$)\)?|\)|(?<=[A-Z])[.:、]|\*\*|[^\S\n]*+\n|\s+[-–—]\s)\s*"
)
_ONLY_LETTERS = re.compile(
    r"(?:\W|\b(?:and|or|both|also|maybe|perhaps|possibly|either)\b|(?<!\w)[A-Z](?!\w))*+", re.I
)
_MORE_LETTERS = re.compile(r"\W*(?:(?:and|or|and/or|maybe|perhaps|possibly)\W+)+\(?[A-Z](?!\w)", re.I)
_ALSO = re.compile(r"\b(?:also|equally|alternatively|as well|too|possibly|possible|either)\b", re.I)
_LISTED = re.compile(r"\n[^\w\n]*[A-Z](?:[.):、]|[^\w\n]*(?:\n|$))")
_LISTED_BARE = re.compile(r"\n[^\w\n]*[A-Z][^\w\n]*(?:\n|$)")
_REASONS = re.compile(
    r"(?:\b(?:because|since|unlike|whereas|while|compared (?:to|with)|versus|given that)|,\s+as)\b"
    r"(?:[^.!?\n]|[.!?](?!\s|$))*+",
    re.I,
)
_LONELY = re.compile(r"\W*([A-Za-z])(?=\W*$|[,;:)]|\s+(?:because|since|as)\b)")
_TAKES_BACK = re.compile(rf"\W*(?:{TURNING})\b", re.I)
_NAMES_A_POINT = re.compile(
    r"(?:\b(?:angle|side|line|segment|point|vertex|triangle|circle)s?|[∠△⊙])\s?\Z", re.I
)
_EQUALS_NUMBER = re.compile(r"\s?(?:=|(?:is|equals)(?:\s+equal\s+to)?)\s*[-\d.√\\]")
"""Around a letter of a figure: "angle B", "B = 70"."""
_SENTENCE_END = re.compile(r"\n|(?<!\s[A-Z])[.!?](?=\s|$)")
_INNER_MARKER = re.compile(r"\s\(?([A-Z])[.):、]\s*")
_SMALL_LETTER = re.compile(
    r"\(([a-z])\)|\b(?:option|answer|choice|letter)\s([a-z])(?=\s{0,3}(?:[.,;:)\n]|$))", re.I
)
_EDGES = " *_`\"'“”[]().:,。，、：；！!;#$<>"


def final_answer(reply: str) -> str:
    """The part of a reply that answers, in time linear in its length.

    After its reasoning, in order: the last <answer>...</answer>, an <answer> that the length limit cut off, the
    last <|begin_of_box|>, else the whole of it (empty when the reasoning never ended). Of that the last
    ``\\boxed{...}``, if there is one, without LaTeX's commands for text.
    """
    text = _tagged(without_reasoning(fold(reply)))
    if boxes := list(_BOX.finditer(text)):
        text = boxes[-1]["held"]
    boxed = _boxed(text)
    return _without_commands(text if boxed is None else boxed).strip()


def _tagged(text: str) -> str:
    """What the last pair of answer tags holds, else what follows the last opening one, else the text."""
    held: str | None = None
    opened: int | None = None
    for tag in _TAG.finditer(text):
        if not tag["close"]:
            opened = tag.end()
        elif opened is not None:
            held, opened = text[opened : tag.start()], None
    if held is not None:
        return held
    return text if opened is None else text[opened:]


def _boxed(text: str) -> str | None:
    """What the last ``\\boxed{...}`` that is closed holds, braces inside it included."""
    open_braces: list[int | None] = []
    start = end = -1
    for brace in _BRACE.finditer(text):
        if brace[0] != "}":
            open_braces.append(brace.end() if len(brace[0]) > 1 else None)
        elif open_braces and (begun := open_braces.pop()) is not None and begun > start:
            start, end = begun, brace.start()
    return None if start < 0 else text[start:end]


def _without_commands(text: str) -> str:
    """Text without LaTeX's commands that change how words look."""
    if "\\" not in text and "{,}" not in text:
        return text
    for _ in range(3):  # \textbf{\text{B}}
        text = _TEXT_COMMAND.sub(r"\1", text)
    for pattern, plain in _LATEX:
        text = pattern.sub(plain, text)
    return text


def parse_options(question: str) -> dict[str, str]:
    """Options in a question's text as letter -> text, letters as capitals; empty when it has none.

    "A. Stripes B. Polka dots"; also with ) : 、 or full-width marks, in brackets, and as a) or (a).
    """
    question = fold(question)
    markers = [list(pattern.finditer(question)) for pattern in _MARKERS]
    starts = {place for line in _INDENT.finditer(question) for place in line.span()}
    in_front = [[one for one in found if one.start() in starts] for found in markers]
    best = max(map(_longest_chain, [*in_front, *markers]), key=len)
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
    """The longest run of markers A, B, C, ..., the last one of as many; empty below two."""
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
    """The letters that an answer claims, by letter or by an option's text; what it denies is not claimed.

    Two or more are an ambiguous answer, unless the question has several right options. A letter that stands first,
    or in a statement such as "the answer is B", decides: what is said behind it explains, unless it takes it back.
    """
    bare = text.strip(_EDGES + "\n\t").upper()
    several = (
        len(bare) <= len(options) and len(set(bare)) == len(bare) and not _options_literal(text, options)
    )
    if set(bare) <= set(options) and (len(bare) == 1 or (bare and several)):
        return set(bare)
    if not _options_literal(text, options):
        leading = _LEADING.match(text)
        if leading and (letter := leading[1].upper()) in options:
            return {letter} | _taken_back(text[leading.end() :], leading[0], options)
    said = [letters for one in statements(text) if (letters := _claimed(one, options))]
    said += [letters for one in named_correct(text) if (letters := _letters(one, options))]
    if said:
        return set.union(*said)
    return _claimed(text, options)


def _taken_back(rest: str, leading: str, options: Mapping[str, str]) -> set[str]:
    """The letters that follow a leading one and contradict it, or are its own."""
    sentence = re.split(r"\n|[.!?](?=\s|$)", rest, maxsplit=1)[0]
    letters = _options_equal(sentence, options)
    letters |= _listed_inside(_SENTENCE_END.split(rest, maxsplit=1)[0], options)
    if _ONLY_LETTERS.fullmatch(sentence) or _MORE_LETTERS.match(rest) or _ALSO.search(sentence):
        letters |= _letters(sentence, options)
    if "\n" in leading:  # behind an empty line, options are gone through to explain
        apart = rest.startswith("\n") or leading.count("\n") > 1
        listed = (_LISTED_BARE if apart else _LISTED).match("\n" + rest.lstrip("\n"))
    else:
        listed = _LISTED.match(rest, len(sentence))
    letters |= _letters(listed[0], options) if listed else set()
    for one in statements(rest):
        letters |= _claimed(one, options)
    for later in (rest, rest[len(sentence) :]):
        if _TAKES_BACK.match(later):
            letters |= _letters(undenied(later), options)
    return letters


def _listed_inside(line: str, options: Mapping[str, str]) -> set[str]:
    """The letters whose markers and words follow in a line: "Polka dots C. Dots"."""
    found = set()
    for marker in _INNER_MARKER.finditer(line):
        option = options.get(marker[1], "")
        if option and line[marker.end() :].lower().startswith(option.lower()):
            found.add(marker[1])
    return found


def _claimed(text: str, options: Mapping[str, str]) -> set[str]:
    """The letters that a text, or the statement in it, names."""
    if _ONLY_LETTERS.fullmatch(text) and not _options_literal(text, options):
        text = text.upper()
    if (lonely := _LONELY.match(text)) and (letter := lonely[1].upper()) in options and len(text) < 200:
        rest = text[lonely.end() :].lstrip(") ")
        said = options[letter]
        if said and (rest.startswith(said) or said.startswith(rest)):
            rest = rest[len(said) :]
        return {letter} | _letters(_REASONS.sub("", undenied(rest)), options)
    claimed = undenied(text)
    denying = {letter: option for letter, option in options.items() if DENYING.search(option)}
    return (
        _options_literal(text, options)
        or _letters(_REASONS.sub("", claimed), options)
        or _options_equal(text, options)
        or _options_within(claimed, options.items() - denying.items())
        | _options_within(text, denying.items())
    )


def _letters(text: str, options: Mapping[str, str]) -> set[str]:
    letters = set()
    for match in _LETTER.finditer(text):
        before = text[max(0, match.start() - 20) : match.start()].rstrip()
        opens_sentence = not before or before[-1] in ".!?\n"
        is_word = match[0] in "AI" and opens_sentence and _ARTICLE.match(text, match.end())
        is_pronoun = match[0] == "I" and text.startswith(" ", match.end())
        in_figure = any(options.values()) and (
            _NAMES_A_POINT.search(before) or _EQUALS_NUMBER.match(text, match.end())
        )
        if match[0] in options and not is_word and not is_pronoun and not in_figure:
            letters.add(match[0])
    small = {(found[1] or found[2]).upper() for found in _SMALL_LETTER.finditer(text)}
    return letters | (small & set(options))


def _options_literal(text: str, options: Mapping[str, str]) -> set[str]:
    """Options that are the text letter for letter, whatever letters they name: "C. Both A and B"."""
    return {letter for letter, option in options.items() if option and option == text.strip().rstrip(".")}


def _options_equal(text: str, options: Mapping[str, str]) -> set[str]:
    return {letter for letter, option in options.items() if text.strip() and same_words(text, option)}


def _options_within(text: str, options: Iterable[tuple[str, str]]) -> set[str]:
    """Options whose words stand in the text; one that lies inside a longer option's words does not count."""
    words = f" {normalise(text)} ".replace("'s ", " ")
    spans = sorted(
        (start, -end, letter)
        for letter, option in options
        if (phrase := normalise(option).replace("'s ", " "))
        for start, end in _places(f" {phrase} ", words)
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


def _places(phrase: str, words: str) -> Iterator[tuple[int, int]]:
    """Where a phrase stands in words, both between spaces."""
    at = words.find(phrase)
    while at >= 0:
        yield at, at + len(phrase)
        at = words.find(phrase, at + len(phrase) - 1)

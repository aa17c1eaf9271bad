"""Options of written questions: their validity, and letters balanced over the data set."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence

LETTERS = "ABCDEFGH"
SUFFIX = "Answer with the options letter from the given choices directly."
"""The end of questions in the paper's released data."""

_MARKER = re.compile(r"(?<![A-Za-z0-9])\(?[A-Z][.):]\s*(?=\S)")
_OWN_LETTER = re.compile(r"[(\[*]*([A-Ha-h])[*]*[.):\]、]+[*]*\s*(?=\S)")
_OPENING = re.compile(
    r"(?:(?:the\s+)?(?:(?:correct|right|best|final)\s+)?(?:answer|option|choice|letter)\s*(?:is\b|[:=])?\s*)+",
    re.I,
)
_LETTER = re.compile(r"[\W_]*(?P<letter>[A-H])(?P<mark>[\W_]*)(?P<words>.*)", re.I | re.S)
_LETTER_LAST = re.compile(r"(?P<words>.+?)[\s,:-]*[(\[](?P<letter>[A-H])[)\]][\W_]*", re.I | re.S)


def fault_of(question: str, right: str, wrong: Sequence[str]) -> str | None:
    """Why a question and its options cannot make a lettered question, or None. Quoted in the next prompt."""
    options = [right, *wrong]
    if len(_MARKER.findall(question)) > 1:
        return "the question lists options itself; they belong into right and wrong"
    for option in options:
        if not option:
            return "an option is empty"
        if _MARKER.search(option) or "\n" in option:
            return f"the option {option!r} has a letter of its own or more than one line"
    seen: dict[str, str] = {}
    for option in options:
        same = seen.setdefault(_plain(option), option)
        if same is not option:
            return f"the options {same!r} and {option!r} are the same"
    return None


def chosen_option(said: str, options: Sequence[str]) -> str | None:
    """The option that a text names by its letter ("A", "(a)", "Option A", "**A**"), by its words, or by both.

    None when the text names none or several, or a letter and the words of another option.
    """
    text = unicodedata.normalize("NFKC", said).strip()
    text = text[opening.end() :] if (opening := _OPENING.match(text)) else text
    words = {_plain(option): option for option in options}
    for form in (_LETTER, _LETTER_LAST):
        if found := form.fullmatch(text):
            place = LETTERS.index(found["letter"].upper())
            rest = _plain(found["words"])
            marked = form is _LETTER_LAST or found["letter"].isupper() or found["mark"].strip()
            if place < len(options) and (not rest or (marked and rest == _plain(options[place]))):
                return options[place]
    return words.get(_plain(text))


def without_letters(right: str, wrong: Sequence[str]) -> tuple[str, list[str]]:
    """Right and wrong options without the model's letters, and the wrong ones without the right one.

    Letters are removed where every option has a different one. A right option that is only a letter stands for the
    option of this letter. Options that differ from the right one only in case or punctuation equal it.
    """
    marks = [_OWN_LETTER.match(option) for option in wrong]
    letters = {
        mark[1].upper(): option[mark.end() :] for mark, option in zip(marks, wrong, strict=True) if mark
    }
    if wrong and len(letters) == len(wrong):
        own = _OWN_LETTER.match(right)
        alone = right.strip("()[]*.: ").upper()
        if alone in letters:
            right, wrong = letters[alone], list(letters.values())
        elif own is not None and letters.get(own[1].upper(), right[own.end() :]) == right[own.end() :]:
            right, wrong = right[own.end() :], list(letters.values())
        elif _plain(right) in map(_plain, letters.values()):
            wrong = list(letters.values())
    return right, [option for option in wrong if _plain(option) != _plain(right)]


def lettered(question: str, options: Sequence[str]) -> str:
    """The question with its options, in the format of the paper's released data."""
    listed = " ".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))
    return f"{question} {listed} {SUFFIX}"


def shuffled(options: Sequence[str], *words: object) -> list[str]:
    """The options in an order that depends only on them and on ``words``."""
    return sorted(options, key=lambda option: _hash(*words, option))


def balanced_letters(options_of: Mapping[str, Sequence[str]], seed: int) -> dict[str, list[str]]:
    """Each id's options, which come right one first, in an order that balances the right letters.

    Among questions with the same number of options, the counts of right letters differ by at most one. Which
    question gets which letter depends on ``seed`` and the ids.
    """
    placed = {}
    taken: dict[int, int] = {}
    for id in sorted(options_of, key=lambda id: _hash(seed, id)):
        right, *wrong = options_of[id]
        count = len(wrong) + 1
        place = taken.get(count, 0) % count
        taken[count] = taken.get(count, 0) + 1
        others = shuffled(wrong, seed, id)
        placed[id] = [*others[:place], right, *others[place:]]
    return placed


def _plain(option: str) -> str:
    """Form by which options are compared: punctuation counts only where there are numbers or signs."""
    text = " ".join(option.casefold().split())
    words = re.sub(r"[-_\s'’\",.;:!?()*`]+", " ", text).strip()
    return words if re.fullmatch(r"[^\W\d]+(?: [^\W\d]+)*", words) else text.strip(" .,;*`") or text


def _hash(*words: object) -> bytes:
    return hashlib.blake2b("\0".join(map(str, words)).encode(), digest_size=16).digest()

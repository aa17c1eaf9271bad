"""Open answers as words: equal to the truth, after an introduction, or in a sentence that repeats the question."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pairuni.rewards.answers.claims import DENIAL, QUALIFIER, stated
from pairuni.rewards.answers.tokens import BRACKETED_OR_IN_PARENTHESES, normalise, plain, word_set
from pairuni.rewards.answers.units import singular

INTRODUCTION = re.compile(
    r"^(?:[a-z]+(?:'s)?(?: [\w']+){0,12}? "  # the colour of the cat ...
    r"(?:is|are|was|were|see|says|reads|shows|looks|seems|appears|be)"  # ... is
    r"|it's|that's|there's|they're|he's|she's)"
    r"(?: (?:to be|like))? "
)
_PREPOSITIONS = word_set("in on at to")
_EMPTY_WORDS = _PREPOSITIONS | word_set("""
    it its this that these those there here they he she i we you his her their of from by with is are was were
    be being been see say show read seem appear look like image picture photo photograph scene shown visible
    seen answer
""")
"""Words that add nothing to an answer."""
_CHANGING_WORDS = word_set("""
    or and not no never nor neither either without except but if unless instead cannot can't isn't aren't wasn't
    weren't don't doesn't didn't won't
""")
"""Words that change an answer even if the question contains them."""
_CONTRAST = re.compile(
    r",\s+(?:and\s+|but\s+)?not\s+"
    r"(?!(?:really|sure|quite|always|exactly|only|certain|necessarily)\b)"
    r"(?:the\s+|an?\s+)?[\w-]+\W*\Z"
)
"""A single word that is denied after the answer: "It is red, not blue." """
_COPULAS = (["is"], ["are"], ["was"], ["were"])
_PLACES = word_set("""
    left right top bottom front back middle center centre upper lower above below
""")


def same_words(one: str, other: str) -> bool:
    """Whether two texts are equal except for case, articles, punctuation and the form of numbers.

    Texts without words and numbers, such as "+", are compared as they are.
    """
    words = normalise(one), normalise(other)
    if not any(words):
        return plain(one).strip().lower() == plain(other).strip().lower()
    return words[0] == words[1] or (
        all("," in text and BRACKETED_OR_IN_PARENTHESES.search(text) for text in (one, other))
        and normalise(one, lists=True) == normalise(other, lists=True)
    )


def words_match(truth: str, given: str) -> bool:
    """Whether an answer, or what it states, has the words of the truth, possibly after an introduction."""
    wanted = normalise(truth)
    return any(
        same_words(truth, text) or (wanted != "" and wanted == _without_introduction(normalise(text)))
        for text in (given, stated(given))
    )


def _without_introduction(text: str) -> str:
    """Normalised words without "it is", "the colour is", "I see", unless that denies or qualifies what follows."""
    introduction = INTRODUCTION.match(text)
    if introduction is None or DENIAL.search(introduction[0]) or QUALIFIER.search(introduction[0]):
        return text
    return text[introduction.end() :]


def answers_in_a_sentence(question: str, truth: str, text: str) -> bool:
    """Whether a text has the truth's words once, and otherwise only words of the question or without content.

    False if the question contains the truth, unless it offers a choice ("red or blue"); the alternatives of a choice
    are never mere repetition. A place may be followed by its reference: "to the left of the dog".
    """
    asked = [singular(word) for word in normalise(question).split()]
    wanted, words = normalise(truth).split(), normalise(_CONTRAST.sub("", text)).split()
    alternatives = _alternatives(asked)
    if "?" in text or words[:1] in _COPULAS or not wanted:
        return False
    if not alternatives and set(asked).issuperset(map(singular, wanted)):
        return False
    free = (_EMPTY_WORDS | set(asked)) - _CHANGING_WORDS - alternatives
    if _stands_alone(wanted, words, free):
        return True
    place = wanted[1:]
    return wanted[0] in _PREPOSITIONS and bool(place) and _stands_alone(place, words, free - _PREPOSITIONS)


def _alternatives(asked: Sequence[str]) -> set[str]:
    """The nearest words with content on both sides of each "or"."""
    found = set()
    for at in (place for place, word in enumerate(asked) if word == "or"):
        for side in (asked[max(0, at - 5) : at][::-1], asked[at + 1 : at + 6]):
            found |= set(next(([word] for word in side if word not in _EMPTY_WORDS), []))
    return found


def _stands_alone(wanted: Sequence[str], words: Sequence[str], free: frozenset[str]) -> bool:
    """Whether ``wanted`` occurs once in ``words`` and all other words are free."""
    starts = [
        at for at, word in enumerate(words) if word == wanted[0] and words[at : at + len(wanted)] == wanted
    ]
    if len(starts) != 1:
        return False
    before, after = words[: starts[0]], list(words[starts[0] + len(wanted) :])
    if wanted[-1] in _PLACES:
        if after[:1] == ["side"]:
            after = after[1:]
        if after[:1] == ["of"] and len(after) < 7 and not (_PLACES | _CHANGING_WORDS).intersection(after):
            after = []
    return all(singular(word) in free for word in (*before, *after))

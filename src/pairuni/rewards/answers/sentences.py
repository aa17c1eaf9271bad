"""Answers in a sentence that repeats the question: "The man is holding a phone." to "What is the man holding?"."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pairuni.rewards.answers.units import singular
from pairuni.rewards.answers.words import normalise, words_of

_PREPOSITIONS = words_of("in on at to")
_FREE = _PREPOSITIONS | words_of("""
    it its this that these those there here they he she i we you his her their of from by with is are was were be being
    been see say show read seem appear look like image picture photo photograph scene shown visible seen answer
""")
"""Words that add nothing to an answer."""
_CHANGING = words_of("""
    or and not no never nor neither either without except but if unless instead cannot can't isn't aren't wasn't
    weren't don't doesn't didn't won't
""")
"""Words that a question may contain, but that change an answer."""
_CONTRAST = re.compile(
    r",\s+(?:and\s+|but\s+)?not\s+(?!(?:really|sure|quite|always|exactly|only|certain|necessarily)\b)(?:the\s+|an?\s+)?[\w-]+\W*\Z"
)
"""A single word that is denied behind the answer: "It is red, not blue." """
_ASKING = (["is"], ["are"], ["was"], ["were"])
_PLACES = words_of("left right top bottom front back middle center centre upper lower above below")


def answers_in_a_sentence(question: str, truth: str, text: str) -> bool:
    """Whether a text is the truth's words and, around them, only words of the question and words that add nothing.

    Never where the question names the truth, unless it asks to choose ("red or blue"), where the words beside the
    "or" are no mere repetition. A place may be followed by what it is relative to: "to the left of the dog".
    """
    asked = [singular(word) for word in normalise(question).split()]
    wanted, words = normalise(truth).split(), normalise(_CONTRAST.sub("", text)).split()
    chosen_from = _beside_or(asked)
    if "?" in text or words[:1] in _ASKING or not wanted:
        return False
    if not chosen_from and set(asked).issuperset(map(singular, wanted)):
        return False
    free = (_FREE | set(asked)) - _CHANGING - chosen_from
    if _stands_alone(wanted, words, free):
        return True
    place = wanted[1:]
    return wanted[0] in _PREPOSITIONS and bool(place) and _stands_alone(place, words, free - _PREPOSITIONS)


def _beside_or(asked: Sequence[str]) -> set[str]:
    """The nearest words on both sides of each "or" that are not in all sentences."""
    beside = set()
    for at in (place for place, word in enumerate(asked) if word == "or"):
        for side in (asked[max(0, at - 5) : at][::-1], asked[at + 1 : at + 6]):
            beside |= set(next(([word] for word in side if word not in _FREE), []))
    return beside


def _stands_alone(wanted: Sequence[str], words: Sequence[str], free: frozenset[str]) -> bool:
    starts = [
        at for at, word in enumerate(words) if word == wanted[0] and words[at : at + len(wanted)] == wanted
    ]
    if len(starts) != 1:
        return False
    before, behind = words[: starts[0]], list(words[starts[0] + len(wanted) :])
    if wanted[-1] in _PLACES:
        if behind[:1] == ["side"]:
            behind = behind[1:]
        if behind[:1] == ["of"] and len(behind) < 7 and not (_PLACES | _CHANGING).intersection(behind):
            behind = []
    return all(singular(word) in free for word in (*before, *behind))

"""Options of written questions: what they may be, and the letter of the right one, balanced over a set."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence

LETTERS = "ABCDEFGH"
SUFFIX = "Answer with the options letter from the given choices directly."
"""How questions of the paper's released data end."""

_MARKER = re.compile(r"(?<![A-Za-z0-9])\(?[A-Z][.):]\s*(?=\S)")


def fault_of(question: str, right: str, wrong: Sequence[str]) -> str | None:
    """What is wrong with a question and its options as parts of a lettered question; None when nothing is."""
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
        same = seen.setdefault(re.sub(r"[\W_]+", " ", option.casefold()).strip() or option, option)
        if same is not option:
            return f"the options {same!r} and {option!r} are the same"
    return None


def lettered(question: str, options: Sequence[str]) -> str:
    """The question with its options, as the released data write it."""
    listed = " ".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))
    return f"{question} {listed} {SUFFIX}"


def shuffled(options: Sequence[str], *words: object) -> list[str]:
    """The options in an order that depends on them and on ``words`` alone."""
    return sorted(options, key=lambda option: _draw(*words, option))


def balanced_letters(options_of: Mapping[str, Sequence[str]], seed: int) -> dict[str, list[str]]:
    """Each id's options, right one first, put in order so that right letters are as even as they can be.

    Among questions of as many options, each letter is right equally often, give or take one; which question
    gets which is drawn from ``seed`` and the ids.
    """
    placed = {}
    taken: dict[int, int] = {}
    for id in sorted(options_of, key=lambda id: _draw(seed, id)):
        right, *wrong = options_of[id]
        count = len(wrong) + 1
        place = taken.get(count, 0) % count
        taken[count] = taken.get(count, 0) + 1
        others = shuffled(wrong, seed, id)
        placed[id] = [*others[:place], right, *others[place:]]
    return placed


def _draw(*words: object) -> bytes:
    return hashlib.blake2b("\0".join(map(str, words)).encode(), digest_size=16).digest()

"""Options that are written as a text: JSON, Python's form of a list, or lettered lines. Nothing is evaluated."""

from __future__ import annotations

import ast
import io
import re
import tokenize
import unicodedata
import warnings
from collections.abc import Iterator
from typing import Any

from pairuni.io.text import parse_json
from pairuni.pairug.completion.options import LETTERS

LONGEST = 1 << 16
"""Characters of such a text."""
_DEEPEST = 8
"""Brackets within each other; both limits keep a hostile text from taking the parser's stack or time."""

_KNOWN = (*"[]{}(),:-", "None", "True", "False", "nan")

LETTER_IN_FRONT = r"\s*[(\[（【]?([A-Za-zＡ-Ｚａ-ｚ])\s*[)\]）】.:、。．：]+\s*"
"""A letter as names of options are written: "A. ", "(A) ", "a)", "Ａ．"."""


def parsed(text: str) -> Any:
    """The list, tuple or dict that ``text`` writes out, (letter, option) pairs of lettered options; None for others."""
    text = text.strip()
    if len(text) > LONGEST:
        return None
    if text[:1] in ("[", "{", "("):
        for read in (_json, _python):
            found = read(text)
            if isinstance(found, list | tuple | dict):
                return found
    return _lettered(text)


def _json(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        return None


def _python(text: str) -> Any:
    """What ``repr`` of a list, tuple or dict, or ``str`` of an array of texts wrote."""
    try:
        literal = "".join(_literal_tokens(text))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of backslashes in texts
            return ast.literal_eval(literal)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError, tokenize.TokenError):
        return None


def _literal_tokens(text: str) -> Iterator[str]:
    """The tokens of a literal. Raises ValueError for tokens and nesting that no list of options has.

    ``str`` of an array of texts writes no commas, and Python would join its texts: ['red' 'blue'].
    """
    depth, last_kind, last = 0, tokenize.NL, ""
    for kind, token, *_ in tokenize.generate_tokens(io.StringIO(text).readline):
        if kind in (tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER):
            continue
        depth += (token in ("[", "{", "(")) - (token in ("]", "}", ")"))
        if depth > _DEEPEST or token == "-" == last:
            raise ValueError("is nested too deep")
        known = kind in (tokenize.STRING, tokenize.NUMBER) or token in _KNOWN
        if not known:
            raise ValueError(f"{token!r} is no part of a literal")
        token = "None" if token == "nan" else token
        yield ("," if kind == last_kind == tokenize.STRING else " ") + token
        last_kind, last = kind, token


def _lettered(text: str) -> list[tuple[str, str]] | None:
    """Options on lines of their own or in a row, each behind its letter: "A. red B. blue"."""
    start = r"^" if "\n" in text else r"(?:(?<=[\s;,])|^)"
    marks: list[re.Match[str]] = []
    for match in re.finditer(rf"{start}{LETTER_IN_FRONT}(?=\S)", text, re.M):
        if unicodedata.normalize("NFKC", match[1]).upper() == LETTERS[len(marks) : len(marks) + 1]:
            marks.append(match)
    if len(marks) < 2 or text[: marks[0].start()].strip():
        return None
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    return [
        (mark[1], text[mark.end() : end].strip(" \t\r\n;,")) for mark, end in zip(marks, ends, strict=True)
    ]

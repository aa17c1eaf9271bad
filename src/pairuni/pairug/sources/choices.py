"""The options of a question in the forms that data sets use: lists, objects, pairs, and texts of these.

Texts are parsed as JSON, as Python literals or as lettered lines; nothing is evaluated.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pairuni.io.text import parse_json
from pairuni.pairug.completion.options import LETTERS
from pairuni.pairug.sources.values import as_text, is_absent

LONGEST = 1 << 16
"""Characters of a text that is parsed."""
_DEEPEST = 8
"""Nested brackets in a text. Both limits protect the parser's stack and time."""
_LITERALS = (*"[]{}(),:-", "None", "True", "False", "nan")
_NULLS = ("null", "None", "nan", "NaN")
"""No options, as JSON, Python and pandas write them in a text column."""

_LETTER = r"\s*[(\[（【]?([A-Za-zＡ-Ｚａ-ｚ])\s*[)\]）】.:、。．：]+\s*(?=\S)"
"""A letter before an option: "A. ", "(A) ", "a)", "Ａ．"."""
LEADING_LETTER = re.compile(_LETTER)
_LEADING_NUMBER = re.compile(r"\s*\(?(\d{1,2})[).:、]\s+(?=\S)")
_NUMBERS = [str(number) for number in range(1, 100)]
_LABEL = re.compile(r"(?:(?:option|choice)[ _-]?)?\(?([A-Za-z]|\d{1,2})[).:]?", re.I)
_COLUMN = re.compile(r"(?:(?:option|choice)[ _-]?)?([A-H])", re.I)
_LABEL_KEYS = ("label", "letter", "key", "option", "choice", "id", "index", "name")
_TEXT_KEYS = ("text", "value", "content", "option", "choice", "answer", "description")


class BadOptions(ValueError):
    """Why a value is not a list of options, as a predicate; the name of the field precedes it."""


@dataclass(frozen=True)
class Choices:
    """Options in their order. labels: their names in the data, "A" or "1"; empty for a plain list.

    first_gap: position of the first null between options of a plain list. From there on a letter or a number is
    ambiguous, because it may count the null or not.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...] = ()
    first_gap: int | None = None

    @property
    def countable(self) -> int:
        """Number of leading options that a letter or a number can refer to."""
        return len(self.texts) if self.first_gap is None else self.first_gap


def choices_of(value: Any) -> Choices | None:
    """The options in a value of any known form; None if there are none.

    Forms: a list; an object by letter or number; a list of objects or pairs of label and text; an object of two lists,
    label and text; each of these as JSON or Python text; a text of lettered options. Raises BadOptions for anything
    else, and Unreadable for an option that cannot be text.
    """
    value = _plain(value)
    if isinstance(value, bytes):
        value = as_text(value)
    if isinstance(value, str) and value.strip():
        value = _of_text(value)
    if is_absent(value) or (isinstance(value, str | list | tuple | dict) and not value):
        return None
    if isinstance(value, dict):
        return _of_object(value)
    if isinstance(value, list | tuple):
        return _of_list(list(map(_plain, value)))
    if isinstance(value, str):
        return None
    raise BadOptions(f"must be a list of options, not {shown(value)}")


def letter_columns(names: Iterable[str]) -> dict[str, str]:
    """Letter -> column for tables with a column for each option (A, B, C or option_a, option_b), else empty.

    Needs at least the columns of A and B in the same spelling.
    """
    found: dict[str, dict[str, str]] = {}
    for name in names:
        match = _COLUMN.fullmatch(name)
        if match and not (len(name) == 1 and name.islower()):
            found.setdefault(name[:-1].casefold(), {})[match[1].upper()] = name
    complete = (columns for columns in found.values() if {"A", "B"} <= columns.keys())
    return dict(sorted(next(complete, {}).items()))


def shown(value: Any) -> str:
    """A value for an error message."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def parsed(text: str) -> Any:
    """The list, tuple or dict that ``text`` writes out, or (letter, option) pairs of lettered options, else None."""
    text = text.strip()
    if len(text) > LONGEST:
        return None
    if text[:1] in ("[", "{", "("):
        for parse in (_json, _python):
            found = parse(text)
            if isinstance(found, list | tuple | dict):
                return found
    return _lettered(text)


def _of_text(text: str) -> Any:
    if text.strip() in _NULLS:
        return None
    value = parsed(text)
    if value is None:
        too_long = len(text) > LONGEST
        why = f"a text of more than {LONGEST:,} characters" if too_long else f"the text {shown(text)}"
        raise BadOptions(f'must be a list of options, such as ["red", "blue"] or A. red B. blue, not {why}')
    return value


def _of_object(value: dict[Any, Any]) -> Choices | None:
    held = {name: _plain(inner) for name, inner in value.items() if not is_absent(inner)}
    if not held:
        return None
    if all(isinstance(inner, list | tuple) for inner in held.values()):
        label, text = _keys(held)
        if label is not None and text is not None and len(held[label]) == len(held[text]):
            return _labelled(list(zip(held[label], held[text], strict=True)))
    if not all(_LABEL.fullmatch(str(name)) for name in held):
        raise BadOptions(
            f"must be a list, or an object by letter or number, not one with {shown(list(held))}"
        )
    return _labelled(list(held.items()))


def _of_list(values: list[Any]) -> Choices | None:
    held = [value for value in values if not is_absent(value)]
    if all(isinstance(value, str) and not value.strip() for value in held):
        return None
    if all(isinstance(value, dict) for value in held):
        return _labelled([_pair(value) for value in held])
    if all(isinstance(value, list | tuple) and len(value) == 2 for value in held):
        return _labelled([(value[0], value[1]) for value in held])
    gap = next(place for place, value in enumerate([*values, None]) if is_absent(value))
    return _unlabelled([_text(value) for value in held], gap if gap < len(held) else None)


def _pair(value: dict[Any, Any]) -> tuple[Any, Any]:
    """Label and text of an option that is an object."""
    held = {name: inner for name, inner in value.items() if not is_absent(inner)}
    label, text = _keys(held)
    if text is not None:
        return held.get(label), held[text]
    if len(held) == 1 and all(_LABEL.fullmatch(str(name)) for name in held):
        return next(iter(held.items()))
    if not set(map(str, value)) - {*_LABEL_KEYS, *_TEXT_KEYS}:
        return None, None
    raise BadOptions(f"must hold objects with a label and a text, not {shown(value)}")


def _keys(held: Mapping[Any, Any]) -> tuple[Any, Any]:
    """The keys of an object that hold the label and the text; None for one that is missing."""
    lower = {str(name).casefold(): name for name in held}
    text = next((lower[name] for name in _TEXT_KEYS if name in lower), None)
    label = next((lower[name] for name in _LABEL_KEYS if name in lower and lower[name] != text), None)
    return label, text


def _labelled(pairs: list[tuple[Any, Any]]) -> Choices | None:
    """Options in the order of their labels; an option whose text is null is left out."""
    pairs = [(label, text) for label, text in pairs if not is_absent(text)]
    texts = [_text(text) for _, text in pairs]
    if not pairs:
        return None
    if all(is_absent(label) for label, _ in pairs):
        return _unlabelled(texts)
    names = [_label(label) for label, _ in pairs]
    if len(set(names)) < len(names) or len({name.isdecimal() for name in names}) > 1:
        raise BadOptions(f"must label each option with a different letter or number, not {shown(names)}")
    if _leading_labels(texts) == names:
        texts = list(map(_without_label, texts))
    order = sorted(range(len(names)), key=lambda place: (len(names[place]), names[place]))
    return Choices(tuple(texts[place] for place in order), tuple(names[place] for place in order))


def _label(label: Any) -> str:
    match = _LABEL.fullmatch(unicodedata.normalize("NFKC", str(as_text(label))))
    if match is None:
        raise BadOptions(f"must label each option with a letter or number, not {shown(label)}")
    return match[1].upper()


def _unlabelled(texts: list[str], first_gap: int | None = None) -> Choices:
    """Options of a list; if all begin with letters or numbers in order, from A or 1, these are labels."""
    labels = _leading_labels(texts)
    if len(texts) > 1 and (labels == list(LETTERS[: len(texts)]) or labels == _NUMBERS[: len(texts)]):
        return Choices(tuple(map(_without_label, texts)), tuple(labels))
    return Choices(tuple(texts), (), first_gap)


def _leading_labels(texts: Sequence[str]) -> list[str]:
    found = [LEADING_LETTER.match(text) or _LEADING_NUMBER.match(text) for text in texts]
    return [unicodedata.normalize("NFKC", match[1]).upper() for match in found if match]


def _without_label(text: str) -> str:
    match = LEADING_LETTER.match(text) or _LEADING_NUMBER.match(text)
    return text[match.end() :] if match else text


def _text(value: Any) -> str:
    if isinstance(value, list | tuple | dict):
        raise BadOptions(f"must hold texts or numbers, not {shown(value)}")
    return str(as_text(value))


def _plain(value: Any) -> Any:
    """A numpy array as a list, anything else as it is."""
    return value.tolist() if hasattr(value, "tolist") else value


def _json(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        return None


def _python(text: str) -> Any:
    """The value of ``repr`` of a list, tuple or dict, or of ``str`` of a numpy array of texts; None for other texts."""
    try:
        literal = "".join(_literal_tokens(text))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in texts
            return ast.literal_eval(literal)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError, tokenize.TokenError):
        return None


def _literal_tokens(text: str) -> Iterator[str]:
    """The tokens of a literal. Raises ValueError for tokens and nesting that no list of options has.

    numpy writes an array of texts without commas, and Python would join these: ['red' 'blue'].
    """
    depth, last_kind, last = 0, tokenize.NL, ""
    for kind, token, *_ in tokenize.generate_tokens(io.StringIO(text).readline):
        if kind in (tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER):
            continue
        depth += (token in ("[", "{", "(")) - (token in ("]", "}", ")"))
        if depth > _DEEPEST or token == "-" == last:
            raise ValueError("is nested too deeply")
        known = kind in (tokenize.STRING, tokenize.NUMBER) or token in _LITERALS
        if not known:
            raise ValueError(f"{token!r} is not part of a literal")
        token = "None" if token == "nan" else token
        yield ("," if kind == last_kind == tokenize.STRING else " ") + token
        last_kind, last = kind, token


def _lettered(text: str) -> list[tuple[str, str]] | None:
    """Options on separate lines or in one line, each after its letter: "A. red B. blue"."""
    start = r"^" if "\n" in text else r"(?:(?<=[\s;,])|^)"
    marks: list[re.Match[str]] = []
    for match in re.finditer(start + _LETTER, text, re.M):
        if unicodedata.normalize("NFKC", match[1]).upper() == LETTERS[len(marks) : len(marks) + 1]:
            marks.append(match)
    if len(marks) < 2 or text[: marks[0].start()].strip():
        return None
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    return [
        (mark[1], text[mark.end() : end].strip(" \t\r\n;,")) for mark, end in zip(marks, ends, strict=True)
    ]

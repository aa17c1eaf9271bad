"""Options of a question in the forms that data sets write them in."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pairuni.pairug.completion.options import LETTERS
from pairuni.pairug.sources.literals import LETTER_IN_FRONT, LONGEST, parsed
from pairuni.pairug.sources.values import as_text, is_absent

_LABEL = re.compile(r"(?:(?:option|choice)[ _-]?)?\(?([A-Za-z]|\d{1,2})[).:]?", re.I)
_COLUMN = re.compile(r"(?:(?:option|choice)[ _-]?)?([A-H])", re.I)
_IN_FRONT = re.compile(rf"{LETTER_IN_FRONT}(?=\S)")
_NUMBER_IN_FRONT = re.compile(r"\s*\(?(\d{1,2})[).:、]\s+(?=\S)")
_NUMBERS = [str(number) for number in range(1, 100)]
_NULLS = ("null", "None", "nan", "NaN")
"""No options, as JSON, Python and pandas write them in a column of texts."""
_LABEL_KEYS = ("label", "letter", "key", "option", "choice", "id", "index", "name")
_TEXT_KEYS = ("text", "value", "content", "option", "choice", "answer", "description")


class BadOptions(ValueError):
    """Why a value is no list of options, as the end of a sentence that begins with its field."""


@dataclass(frozen=True)
class Choices:
    """Options in their order. labels: what the data call them, "A" or "1"; empty for a plain list.

    first_gap: where a null stands before an option of a plain list. From there on a letter or a number may count the
    null or not, and names nothing.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...] = ()
    first_gap: int | None = None

    @property
    def countable(self) -> int:
        """How many options, from the first on, a letter or a number can name."""
        return len(self.texts) if self.first_gap is None else self.first_gap


def choices_of(value: Any) -> Choices | None:
    """The options that a value of any known form stands for; None when there are none.

    Forms: a list; an object by letter or number; a list of objects or pairs of label and text; an object of two lists,
    label and text; each of these as JSON or as Python writes it; text with lettered options. Raises BadOptions for
    all else, and Unreadable for an option that is no text.
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
    """Letter -> column of a table that gives each option a column, A, B, C or option_a, option_b; empty if it does
    not: fewer than two of one spelling, or not from A on."""
    found: dict[str, dict[str, str]] = {}
    for name in names:
        match = _COLUMN.fullmatch(name)
        if match and not (len(name) == 1 and name.islower()):
            found.setdefault(name[:-1].casefold(), {})[match[1].upper()] = name
    whole = (columns for columns in found.values() if {"A", "B"} <= columns.keys())
    return dict(sorted(next(whole, {}).items()))


def shown(value: Any) -> str:
    """A value in a sentence."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _of_text(text: str) -> Any:
    if text.strip() in _NULLS:
        return None
    value = parsed(text)
    if value is None:
        why = (
            f"a text of more than {LONGEST:,} characters"
            if len(text) > LONGEST
            else f"the text {shown(text)}"
        )
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
    """Which keys of an object hold the label and the text; None for one that is not there."""
    lower = {str(name).casefold(): name for name in held}
    text = next((lower[name] for name in _TEXT_KEYS if name in lower), None)
    label = next((lower[name] for name in _LABEL_KEYS if name in lower and lower[name] != text), None)
    return label, text


def _labelled(pairs: list[tuple[Any, Any]]) -> Choices | None:
    """Options with names of their own, in the order of these; an option whose text is null is not there."""
    pairs = [(label, text) for label, text in pairs if not is_absent(text)]
    texts = [_text(text) for _, text in pairs]
    if not pairs:
        return None
    if all(is_absent(label) for label, _ in pairs):
        return _unlabelled(texts)
    names = [_label(label) for label, _ in pairs]
    if len(set(names)) < len(names) or len({name.isdecimal() for name in names}) > 1:
        raise BadOptions(f"must name each option by a letter or number of its own, not {shown(names)}")
    if _labels_in_front(texts) == names:
        texts = list(map(_without_label, texts))
    order = sorted(range(len(names)), key=lambda place: (len(names[place]), names[place]))
    return Choices(tuple(texts[place] for place in order), tuple(names[place] for place in order))


def _label(label: Any) -> str:
    match = _LABEL.fullmatch(unicodedata.normalize("NFKC", str(as_text(label))))
    if match is None:
        raise BadOptions(f"must name each option by a letter or number, not {shown(label)}")
    return match[1].upper()


def _unlabelled(texts: list[str], first_gap: int | None = None) -> Choices:
    """Options of a list; where all begin with letters or numbers, in order from A or 1, those are labels."""
    labels = _labels_in_front(texts)
    if len(texts) > 1 and (labels == list(LETTERS[: len(texts)]) or labels == _NUMBERS[: len(texts)]):
        return Choices(tuple(map(_without_label, texts)), tuple(labels))
    return Choices(tuple(texts), (), first_gap)


def _labels_in_front(texts: Sequence[str]) -> list[str]:
    found = [_IN_FRONT.match(text) or _NUMBER_IN_FRONT.match(text) for text in texts]
    return [unicodedata.normalize("NFKC", match[1]).upper() for match in found if match]


def _without_label(text: str) -> str:
    match = _IN_FRONT.match(text) or _NUMBER_IN_FRONT.match(text)
    return text[match.end() :] if match else text


def _text(value: Any) -> str:
    if isinstance(value, list | tuple | dict):
        raise BadOptions(f"must hold texts or numbers, not {shown(value)}")
    return str(as_text(value))


def _plain(value: Any) -> Any:
    """Without numpy's array around a list."""
    return value.tolist() if hasattr(value, "tolist") else value

"""From the columns of a row to the fields of a record, as text: common column names, and what the user names."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pairuni.chat.reasoning import without_reasoning
from pairuni.pairug.jsonl import Problem
from pairuni.pairug.sources.chats import QUESTION_ROLES, REPLY_ROLES, words_of
from pairuni.pairug.sources.choices import BadOptions, Choices, choices_of, letter_columns
from pairuni.pairug.sources.layouts import IMAGE_COLUMNS, numbered_images
from pairuni.pairug.sources.readers.rows import Row
from pairuni.pairug.sources.values import Unreadable, as_json, as_text, is_absent
from pairuni.placeholders import without_placeholders

COMMON = {
    "id": ("id",),
    "image_path": IMAGE_COLUMNS,
    "question": ("question", "problem", "query"),
    "answer": ("answer",),
    "options": ("options", "choices"),
    "prompt": ("prompt", "caption", "captions", "text", "txt"),
    "tag": ("tag",),
}
"""Columns of a field unless the user names one; the first that a row has is used."""

_ANY_CASE = ("image_path", "question", "answer", "options", "prompt")
"""Fields whose columns may be capitalised if none is in lower case."""
_PLACEHOLDER = re.compile(r"\{([^{}]*?)(?::0(\d{1,2}))?\}")

_ANSWER = re.compile(r"\s*<answer>(?P<inner>(?:(?!<answer>).)*)</answer>\s*", re.S | re.I)
_BOXED = re.compile(r"\s*\${0,2}\\boxed\{(?P<inner>.*)\}\.?\${0,2}\.?\s*", re.S)
_TEXT = re.compile(r"\s*\\(?:text|textbf|textit|mathrm|mathbf)\{(?P<inner>.*)\}\s*", re.S)


class Missing(ValueError):
    """A column that the user named is missing from a row."""


@dataclass
class Fields:
    """The fields of a row before validation.

    row: with the columns of its layout. values: fields as text, the image as given, further columns as JSON values.
    answer: as given. lost: further columns that cannot be kept.
    """

    row: Row
    values: dict[str, Any] = dataclasses.field(default_factory=dict)
    answer: Any = None
    choices: Choices | None = None
    problems: list[Problem] = dataclasses.field(default_factory=list)
    lost: list[str] = dataclasses.field(default_factory=list)


def fields_of(row: Row, raw: Row, wanted: tuple[str, ...], columns: Mapping[str, str]) -> Fields:
    """The fields ``wanted`` of a row. raw: the row as in the file. columns: field -> column or template of the user."""
    try:
        values = _selected(row, raw, wanted, columns)
    except Missing as reason:
        return Fields(row, problems=[row.problem("", str(reason))])
    fields = Fields(row)
    for name, value in values.items():
        try:
            fields.values[name] = _converted(name, value, fields) if name in wanted else as_json(value)
        except (BadOptions, Unreadable) as reason:
            if name in wanted:
                fields.problems.append(row.problem(name, str(reason)))
            else:
                fields.lost.append(f"column {name}, which JSON cannot hold")
    return fields


def common_columns(field: str, names: Iterable[str]) -> list[str]:
    """The columns of a row that may be taken for a field, in order of preference."""
    names = list(names)
    present = [name for name in COMMON[field] if name in names]
    if present or field not in _ANY_CASE:
        return present
    return [name for known in COMMON[field] for name in names if str(name).casefold() == known]


def bare_answer(value: Any) -> Any:
    """An answer without reasoning and the marks around it: <think>...</think><answer> \\boxed{3} </answer> is 3."""
    if isinstance(value, str):
        value = without_reasoning(value)
        for wrapper in (_ANSWER, _BOXED, _TEXT):
            if (match := wrapper.fullmatch(value)) and _is_balanced(match["inner"]):
                value = match["inner"].strip()
    return value


def _selected(row: Row, raw: Row, wanted: tuple[str, ...], columns: Mapping[str, str]) -> dict[str, Any]:
    """The row's values under the names of fields; renamed columns do not also keep their own names. Raises Missing."""
    taken: dict[str, Any] = {}
    renamed: set[str] = set()
    for field in wanted:
        given = columns.get(field)
        if given is None:
            present = common_columns(field, row.values)
            column = next((name for name in present if not is_absent(row.values[name])), None)
            letters = letter_columns(row.values) if field == "options" and column is None else {}
            if letters:
                taken[field] = {letter: row.values[name] for letter, name in letters.items()}
                renamed.update(letters.values())
            elif present:
                taken[field] = row.values[column or present[0]]
                renamed.add(column or present[0])
            elif field == "image_path" and (images := numbered_images(row.values)):
                taken[field] = list(images.values())
                renamed.update(images)
        elif given[:1] in ("'", '"'):
            taken[field] = _PLACEHOLDER.sub(lambda match: _filled(row, raw, *match.groups()), given[1:-1])
        elif given:
            taken[field] = _look_up(row, raw, given)
            renamed.add(given)
    rest = {name: value for name, value in row.values.items() if name not in renamed and name not in wanted}
    return {**rest, **taken}


def _look_up(row: Row, raw: Row, column: str) -> Any:
    """A column's value; dots lead into objects and lists: captions.0, extra_info.id. Raises Missing."""
    for values in (row.values, raw.values):
        if column in values:
            return values[column]
    if column in row.empty:
        return None
    value: Any = {**raw.values, **row.values}
    for part in column.split("."):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list | tuple) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            raise Missing(f"has no column {column}; it has {', '.join(map(str, raw.values)) or 'none'}")
    return value


def _filled(row: Row, raw: Row, column: str, width: str | None) -> str:
    """A column's text for a template, padded with zeros to ``width``. Raises Missing if it has none."""
    try:
        text = as_text(_look_up(row, raw, column))
    except Unreadable as reason:
        raise Missing(f"cannot be filled in: column {column} {reason}") from None
    if not isinstance(text, str):
        kind = "no value" if text is None else f"a value of type {type(text).__name__}"
        raise Missing(f"cannot be filled in: column {column} holds {kind}")
    return text.zfill(int(width or 0))


def _converted(name: str, value: Any, fields: Fields) -> Any:
    """The value of one field; also sets ``answer`` and ``choices``. Raises BadOptions and Unreadable."""
    if name == "image_path":
        # bytes and objects stay as they are; numbers may name files
        return None if is_absent(value) else as_text(value) if isinstance(value, str | int | float) else value
    if name == "options":
        fields.choices = choices_of(value)
        return as_json(value)
    if isinstance(value, list) and len(value) == 1 and not isinstance(value[0], dict):
        value = value[0]
    if name == "answer":
        fields.answer = bare_answer(words_of(value, REPLY_ROLES))
        return as_text(fields.answer)
    if name == "question":
        value = words_of(value, QUESTION_ROLES)
    elif name == "prompt":
        several = isinstance(value, list) and value and not isinstance(value[0], dict)
        value = words_of(value[0] if several else value, REPLY_ROLES)
    text = as_text(value)
    return without_placeholders(text) if name in ("question", "prompt") and isinstance(text, str) else text


def _is_balanced(text: str) -> bool:
    """Whether no closing brace belongs to a brace before the text."""
    depth = 0
    for brace in re.findall(r"[{}]", text):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return False
    return True

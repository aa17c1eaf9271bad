"""The texts of a row: its fields as a person would write them, its options, its further columns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pairuni.chat.reasoning import without_reasoning
from pairuni.pairug.jsonl import Problem
from pairuni.pairug.sources.chats import QUESTIONS, REPLIES, words_of
from pairuni.pairug.sources.choices import BadOptions, Choices, choices_of
from pairuni.pairug.sources.columns import Missing, fields_of
from pairuni.pairug.sources.rows import Row
from pairuni.pairug.sources.values import Unreadable, as_json, as_text, is_absent
from pairuni.placeholders import placeholder_fault, without_placeholders
from pairuni.records import GenerationSample, UnderstandingSample

_ANSWER = re.compile(r"\s*<answer>(?P<inner>(?:(?!<answer>).)*)</answer>\s*", re.S | re.I)
_BOXED = re.compile(r"\s*\${0,2}\\boxed\{(?P<inner>.*)\}\.?\${0,2}\.?\s*", re.S)
_TEXT = re.compile(r"\s*\\(?:text|textbf|textit|mathrm|mathbf)\{(?P<inner>.*)\}\s*", re.S)


@dataclass
class Texts:
    """What a row says, before it is checked as a record.

    row: in columns that are known. values: fields as text, the image as it is, further columns as JSON can hold them.
    answer: as the row holds it. lost: further columns that cannot be kept.
    """

    row: Row
    values: dict[str, Any] = field(default_factory=dict)
    answer: Any = None
    choices: Choices | None = None
    problems: list[Problem] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


def texts_of(row: Row, raw: Row, wanted: tuple[str, ...], columns: Mapping[str, str]) -> Texts:
    """The texts of a row whose shape is known. raw: the row as its file holds it."""
    try:
        values = fields_of(row, raw, wanted, columns)
    except Missing as reason:
        return Texts(row, problems=[row.problem("", str(reason))])
    texts = Texts(row)
    for name, value in values.items():
        try:
            if name == "image_path":
                texts.values[name] = _stripped(value)
            elif name == "options" and name in wanted:
                texts.choices = choices_of(value)
                texts.values[name] = as_json(value)
            elif name in wanted:
                texts.values[name] = _field(name, value, texts)
            else:
                texts.values[name] = as_json(value)
        except (BadOptions, Unreadable) as reason:
            if name in wanted:
                texts.problems.append(row.problem(name, str(reason)))
            else:
                texts.lost.append(f"column {name}, which JSON cannot hold")
    return texts


def placeholder_problems(row: Row, sample: UnderstandingSample | GenerationSample) -> list[Problem]:
    """What is wrong with a question or prompt that holds a mark of an image or a special token."""
    name = "question" if isinstance(sample, UnderstandingSample) else "prompt"
    fault = placeholder_fault(getattr(sample, name))
    return [] if fault is None else [row.problem(name, fault)]


def bare_answer(value: Any) -> Any:
    """An answer without reasoning and marks around the whole of it: <think>...</think><answer> \\boxed{3} </answer>."""
    if isinstance(value, str):
        value = without_reasoning(value)
        for wrapper in (_ANSWER, _BOXED, _TEXT):
            if (match := wrapper.fullmatch(value)) and _is_balanced(match["inner"]):
                value = match["inner"].strip()
    return value


def _is_balanced(text: str) -> bool:
    """Whether no brace closes what was opened before the text."""
    depth = 0
    for brace in re.findall(r"[{}]", text):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return False
    return True


def _field(name: str, value: Any, texts: Texts) -> Any:
    if isinstance(value, list) and len(value) == 1 and not isinstance(value[0], dict):
        value = value[0]
    if name == "question":
        return _without_marks(as_text(words_of(value, QUESTIONS)))
    if name == "prompt":
        several = isinstance(value, list) and value and not isinstance(value[0], dict)
        return _without_marks(as_text(words_of(value[0] if several else value, REPLIES)))
    if name == "answer":
        texts.answer = bare_answer(words_of(value, REPLIES))
        return as_text(texts.answer)
    return as_text(value)


def _without_marks(text: Any) -> Any:
    return without_placeholders(text) if isinstance(text, str) else text


def _stripped(value: Any) -> Any:
    """An image's column as it is, but for white space around a path and for numbers that name files."""
    if is_absent(value):
        return None
    return as_text(value) if isinstance(value, str | int | float) else value

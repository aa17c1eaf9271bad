"""Markdown of cards, with escaped texts of users."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

_FRONT = re.compile(r"---\r?\n(.*?\n)---(?:\r?\n|$)", re.S)


def inline(value: Any) -> str:
    """A value as one line of Markdown text; markup in user-given names is escaped."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    text = " ".join(str(value).split())
    for mark in "\\`*_[]<>|":
        text = text.replace(mark, f"\\{mark}")
    return text


def table(head: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    """A table of escaped cells."""
    return raw_table([inline(cell) for cell in head], [[inline(cell) for cell in row] for row in rows])


def raw_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def split_front_matter(text: str) -> tuple[str, str]:
    """The YAML between the lines ``---`` at the beginning of a card, empty if there is none, and the rest."""
    found = _FRONT.match(text)
    return (found[1], text[found.end() :]) if found else ("", text)

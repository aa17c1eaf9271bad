"""Markdown of generated pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pairuni.io.markdown import raw_table


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; columns without any text are left out."""
    filled = list(rows)
    kept = [index for index in range(len(headings)) if any(row[index] for row in filled)]
    head, *cells = ([row[index] for index in kept] for row in (headings, *filled))
    return raw_table(head, cells)


def escaped(text: str) -> str:
    """One line of Markdown."""
    return " ".join((text or "").split()).replace("``", "`").replace("|", "\\|").replace("<", "&lt;")

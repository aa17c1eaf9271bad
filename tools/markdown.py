"""Markdown of generated pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; columns without any text are left out."""
    filled = list(rows)
    kept = [index for index in range(len(headings)) if any(row[index] for row in filled)]
    cells = [headings, ["---"] * len(headings), *filled]
    return "\n".join(f"| {' | '.join(row[index] for index in kept)} |" for row in cells)


def escaped(text: str) -> str:
    """One line of Markdown."""
    return " ".join((text or "").split()).replace("``", "`").replace("|", "\\|").replace("<", "&lt;")

"""Counts in sentences."""

from __future__ import annotations


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun: 1 step, 2 steps, 1,200 steps. plural: for nouns that take more than an s."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"

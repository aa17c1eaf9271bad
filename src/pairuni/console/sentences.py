"""Errors as sentences for a person."""

from __future__ import annotations

from pydantic import ValidationError

EXPECTED = (ValueError, OSError, ImportError, RuntimeError)
"""Exceptions whose messages are for users; others are bugs."""


def sentence(error: Exception) -> str:
    """An error as one sentence: file and reason of a system error, else the message."""
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror.lower()}"
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{error.title}: {'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error).strip() or type(error).__name__

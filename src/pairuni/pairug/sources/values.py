"""Values of rows as a person would write them: one rule for JSON, CSV, parquet, tars and hub data sets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np

_DEEPEST = 64
"""Levels of lists and objects in a further column; more is nothing that a record needs."""


class Unreadable(ValueError):
    """Why a value has no text, as the end of a sentence that begins with its field."""


@dataclass(frozen=True)
class Foreign:
    """A cell of a table that Python has no value for, such as a date beyond the year 9999; kind: its type there."""

    kind: str


def is_absent(value: Any) -> bool:
    """Whether there is no value: null, or the NaN or NaT that tables hold in its place."""
    return value is None or (
        isinstance(value, float | Decimal | datetime | np.generic) and bool(value != value)
    )


def as_text(value: Any) -> Any:
    """A single value as text, None where there is none; lists and objects as they are.

    A whole number has no ".0", whatever its type: a column of whole numbers with a null in it is one of floats, and
    the text of a row must not depend on other rows. Decimals keep the digits that their table shows, moments are
    ISO 8601 with a blank and without a time at midnight, bytes are UTF-8. Raises Unreadable.
    """
    if isinstance(value, np.generic | np.ndarray):
        value = _from_numpy(value)
    if is_absent(value) or isinstance(value, list | tuple | dict):
        return None if is_absent(value) else value
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return _digits(value)
    if isinstance(value, float | Decimal):
        return _number(value)
    if isinstance(value, datetime):
        midnight = value.tzinfo is None and value.time() == time()
        return str(value.date()) if midnight else value.isoformat(sep=" ")
    if isinstance(value, timedelta):
        return str(timedelta(value.days, value.seconds, value.microseconds))  # as Python's, of pandas' too
    if isinstance(value, date | time | UUID):
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return _decoded(bytes(value))
    kind = value.kind if isinstance(value, Foreign) else type(value).__name__
    raise Unreadable(f"is a value of type {kind}, which cannot be read as text")


def as_json(value: Any, depth: int = 0) -> Any:
    """A further column as JSON can hold it: lists and objects with what they hold, numbers and truth values as they
    are, all else as text. Raises Unreadable."""
    if depth > _DEEPEST:
        raise Unreadable(f"is nested more than {_DEEPEST} deep")
    if isinstance(value, np.generic | np.ndarray):
        value = _from_numpy(value)
    if isinstance(value, dict):
        return {_key(name): as_json(inner, depth + 1) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(inner, depth + 1) for inner in value]
    if is_absent(value):
        return None
    if isinstance(value, str):
        return _unicode(value)
    if isinstance(value, bool) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, int):
        _digits(value)
        return value
    return "Infinity" if value == math.inf else "-Infinity" if value == -math.inf else as_text(value)


def _from_numpy(value: Any) -> Any:
    """The Python value of a numpy one; a float32 as the short number that it stands for, 0.1."""
    if isinstance(value, np.ndarray):
        return [_from_numpy(one) for one in value] if value.ndim else _from_numpy(value[()])
    if isinstance(value, np.floating) and value.dtype.itemsize < 8:
        return float(str(value))
    if isinstance(value, np.datetime64 | np.timedelta64):
        return None if np.isnat(value) else _moment(value)
    return value.item() if isinstance(value, np.generic) else value


def _moment(value: Any) -> Any:
    """numpy keeps nanoseconds as an integer, which would be read as a number."""
    found = value.astype("datetime64[us]" if isinstance(value, np.datetime64) else "timedelta64[us]").item()
    return str(value) if isinstance(found, int) else found


def _number(value: float | Decimal) -> str:
    if not math.isfinite(value):
        raise Unreadable("is infinite; a number must be finite")
    if isinstance(value, Decimal):
        return _digits(int(value)) if value == int(value) else format(value, "f")
    return repr(value or 0.0).removesuffix(".0")  # without a sign of zero


def _digits(value: int) -> str:
    try:
        return str(value)
    except ValueError:  # Python's limit on digits
        raise Unreadable("is a whole number of more than 4,300 digits") from None


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise Unreadable(f"holds {len(data):,} bytes that are no UTF-8 text") from None


def _unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Unreadable("is not valid Unicode") from None
    return text


def _key(name: Any) -> str:
    return _unicode(name if isinstance(name, str) else str(as_text(name)))

"""Cell values as text and JSON, by the same rules for JSON, CSV, parquet, tars and hub data sets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np

_DEEPEST = 64
"""Nested lists and objects in a further column."""


class Unreadable(ValueError):
    """Why a value cannot be text, as a predicate; the name of the field precedes it."""


@dataclass(frozen=True)
class Foreign:
    """A cell without a Python value, such as a date after the year 9999. kind: its type in the table."""

    kind: str


def is_absent(value: Any) -> bool:
    """Whether a value is missing: null, or the NaN or NaT that tables use for it."""
    return value is None or (
        isinstance(value, float | Decimal | datetime | np.generic) and bool(value != value)
    )


def as_text(value: Any) -> Any:
    """A scalar as text, None if it is missing; lists and objects unchanged.

    Integers have no ".0", whatever their type: tables store a column of integers with a null as floats, and the text
    of a row must not depend on other rows. Decimals keep their digits; timestamps are ISO 8601 with a space, without
    the time if it is midnight; bytes are decoded as UTF-8. Raises Unreadable.
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
        return str(timedelta(value.days, value.seconds, value.microseconds))  # pandas has its own subclass
    if isinstance(value, date | time | UUID):
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return _decoded(bytes(value))
    kind = value.kind if isinstance(value, Foreign) else type(value).__name__
    raise Unreadable(f"is a value of type {kind}, which cannot be read as text")


def as_json(value: Any, depth: int = 0) -> Any:
    """The JSON value of a further column: lists, objects, numbers and booleans are kept, all else becomes text.

    Raises Unreadable.
    """
    if depth > _DEEPEST:
        raise Unreadable(f"is nested more than {_DEEPEST} levels deep")
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
    """The Python value of a numpy value; a float32 as the shortest equal number, 0.1."""
    if isinstance(value, np.ndarray):
        return [_from_numpy(one) for one in value] if value.ndim else _from_numpy(value[()])
    if isinstance(value, np.floating) and value.dtype.itemsize < 8:
        return float(str(value))
    if isinstance(value, np.datetime64 | np.timedelta64):
        return None if np.isnat(value) else _moment(value)
    return value.item() if isinstance(value, np.generic) else value


def _moment(value: Any) -> Any:
    """A datetime or timedelta in microseconds: numpy converts nanoseconds to an integer."""
    found = value.astype("datetime64[us]" if isinstance(value, np.datetime64) else "timedelta64[us]").item()
    return str(value) if isinstance(found, int) else found


def _number(value: float | Decimal) -> str:
    if not math.isfinite(value):
        raise Unreadable("is infinite; a number must be finite")
    if isinstance(value, Decimal):
        return _digits(int(value)) if value == int(value) else format(value, "f")
    return repr(value or 0.0).removesuffix(".0")  # zero without a sign


def _digits(value: int) -> str:
    try:
        return str(value)
    except ValueError:  # Python limits the digits of an int
        raise Unreadable("is an integer of more than 4,300 digits") from None


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise Unreadable(f"holds {len(data):,} bytes that are not UTF-8 text") from None


def _unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Unreadable("is not valid Unicode") from None
    return text


def _key(name: Any) -> str:
    return _unicode(name if isinstance(name, str) else str(as_text(name)))

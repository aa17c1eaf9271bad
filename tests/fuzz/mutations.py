"""Damage to files: flipped, missing or inserted bytes, and JSON values of other types."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

HOSTILE_BYTES = (
    b"",
    b"\0",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\r",
    b"\n\n",
    b'"',
    b"\\",
    b"\t",
    b"{" * 5000,
    b"[" * 50_000,
    b"9" * 5000,
    b"1e999",
    b"NaN",
    b"null",
    b"../../../../etc/passwd",
    b"/dev/zero",
    b"\x1b[2J\x1b]0;hacked\x07",
    "\u2028\u0085\u202e".encode(),
    b"<img src=x onerror=alert(1)>",
    b"%!PS-Adobe-3.0\n",
    b"\x89PNG\r\n\x1a\n",
    b"PK\x03\x04",
    b"\x80\x04\x95",
)
HOSTILE_VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    10**30,
    10**400,
    1e308,
    float("nan"),
    float("-inf"),
    "",
    " ",
    "\0",
    "\ud800",
    "a" * 100_000,
    "../../../../etc/passwd",
    "/dev/zero",
    "~root",
    "\x1b[2J",
    "one\u2028line",
    [],
    {},
    [[[[[]]]]],
    [None],
    {"": None},
    {"a": {"b": {"c": []}}},
    ["a.png", "b.png"],
)


def damaged(data: bytes, rng: random.Random, *, is_json: bool) -> bytes:
    """``data`` with one to three faults; of JSON and JSON Lines, half the time a value of another kind."""
    if is_json and rng.random() < 0.5:
        return _with_other_values(data, rng)
    for _ in range(rng.randint(1, 3)):
        data = rng.choice(BYTES)(data, rng)
    return data


def _flip(data: bytes, rng: random.Random) -> bytes:
    if not data:
        return data
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _span(data: bytes, rng: random.Random) -> tuple[int, int]:
    begin = rng.randrange(len(data) + 1)
    return begin, min(len(data), begin + rng.choice((1, 2, 8, 64, 1024)))


def _drop(data: bytes, rng: random.Random) -> bytes:
    begin, end = _span(data, rng)
    return data[:begin] + data[end:]


def _repeat(data: bytes, rng: random.Random) -> bytes:
    begin, end = _span(data, rng)
    return data[:end] + data[begin:]


def _overwrite(data: bytes, rng: random.Random) -> bytes:
    begin, end = _span(data, rng)
    return data[:begin] + rng.randbytes(end - begin) + data[end:]


def _insert(data: bytes, rng: random.Random) -> bytes:
    begin, _ = _span(data, rng)
    return data[:begin] + rng.choice(HOSTILE_BYTES) + data[begin:]


def _begin_as(data: bytes, rng: random.Random) -> bytes:
    return rng.choice(HOSTILE_BYTES) + data


BYTES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flip,
    _cut,
    _drop,
    _repeat,
    _overwrite,
    _insert,
    _begin_as,
)


def _with_other_values(data: bytes, rng: random.Random) -> bytes:
    lines = [line for line in data.split(b"\n") if line.strip()]
    try:
        rows = [json.loads(line) for line in lines]
        place = rng.randrange(len(rows))
        rows[place] = _other(rows[place], rng)
        return b"".join(_as_bytes(row) + b"\n" for row in rows)
    except ValueError:  # one JSON value over many lines
        return _as_bytes(_other(json.loads(data), rng))


def _as_bytes(value: Any) -> bytes:
    """JSON, in the spelling of writers that allow NaN and leave lone surrogates escaped."""
    return json.dumps(value).encode()


def _other(value: Any, rng: random.Random) -> Any:
    """The value with one part of it, at any depth, of another kind, missing or under another name."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.15:
        return rng.choice(HOSTILE_VALUES)
    if isinstance(value, list):
        place = rng.randrange(len(value))
        return [*value[:place], _other(value[place], rng), *value[place + 1 :]]
    key = rng.choice(list(value))
    kind = rng.random()
    if kind < 0.15:
        return {name: one for name, one in value.items() if name != key}
    if kind < 0.25:
        return {(key + "x" if name == key else name): one for name, one in value.items()}
    return {**value, key: _other(value[key], rng)}

"""Text and JSON files from any source; every failure is a ValueError that begins with the file and line.

Only "\\n" ends a line: Unicode separators inside a JSON string (U+2028, U+0085) do not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from pairuni.io.files import read_regular

MOST_BYTES = 8 << 30
"""Size limit for files that are read completely."""


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, without a byte order mark.

    Raises OSError if it is missing or not a regular file, and ValueError naming it if it is not UTF-8.
    """
    return decode_text(_read_bytes(path), str(path))


def decode_text(data: bytes, where: str = "") -> str:
    """UTF-8 bytes as text, without a byte order mark. Raises ValueError, which begins with ``where``."""
    try:
        return data.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    except UnicodeDecodeError as error:
        raise _fault(where, f"is not UTF-8 text (byte {error.start + 1})") from None


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, text) of each line of a UTF-8 file that is not blank. Raises as ``read_text`` does."""
    for number, line in enumerate(_read_bytes(path).removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if line.strip():
            yield number, decode_text(line, f"{path}, line {number}").removesuffix("\r")


def parse_json(text: str | bytes, where: str = "", *, finite: bool = False) -> Any:
    """The value of a JSON text. Raises ValueError, which begins with ``where``.

    finite: refuse NaN and infinities, which Python's parser accepts although JSON does not have them.
    """
    if isinstance(text, bytes):
        text = decode_text(text, where)
    try:
        return json.loads(text, parse_constant=_refuse if finite else None)
    except json.JSONDecodeError as error:
        raise _fault(where, f"is not valid JSON ({error.msg} at {_place(error)})") from None
    except RecursionError:
        raise _fault(where, "is not readable JSON (nested too deeply)") from None
    except ValueError as error:  # a number with thousands of digits, or NaN
        raise _fault(where, f"is not readable JSON ({error})") from None


def read_json(path: Path, *, finite: bool = False) -> Any:
    """The value of a JSON file. Raises as ``read_text`` and ``parse_json`` do, naming the file."""
    return parse_json(read_text(path), str(path), finite=finite)


def json_lines(path: Path, *, finite: bool = False) -> Iterator[tuple[int, Any]]:
    """(number, value) of each line of a JSON Lines file that is not blank. Raises, naming file and line."""
    for number, line in text_lines(path):
        yield number, parse_json(line, f"{path}, line {number}", finite=finite)


def first_line(error: BaseException) -> str:
    """The first line of an error's message that is not blank, or the name of its type."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _read_bytes(path: Path) -> bytes:
    try:
        return read_regular(path, most=MOST_BYTES)
    except ValueError as error:
        raise _fault(str(path), str(error)) from None


def _fault(where: str, reason: str) -> ValueError:
    return ValueError(f"{where}: {reason}" if where else reason)


def _place(error: json.JSONDecodeError) -> str:
    return f"line {error.lineno}, column {error.colno}" if error.lineno > 1 else f"column {error.colno}"


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")

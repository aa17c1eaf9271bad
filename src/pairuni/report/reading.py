"""Files of a run's folder, which may be damaged or a stranger's: types are checked, and every fault names its file."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from pairuni.io.files import read_regular
from pairuni.io.text import decode_text, parse_json

MOST_BYTES = 1 << 30
"""Of a file that is read whole."""
DEEPEST = 20
"""Levels of tables in a TOML file."""
_LARGEST = 1e15

Read = TypeVar("Read", bound=BaseModel)


def _not_a_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("true and false are no numbers")
    return value


Number = Annotated[
    float, BeforeValidator(_not_a_bool), Field(ge=-_LARGEST, le=_LARGEST, allow_inf_nan=False, strict=True)
]
"""Finite, and small enough to be drawn."""
Share = Annotated[Number, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, le=int(_LARGEST), strict=True)]


class Part(BaseModel):
    """What a file holds; keys that the page does not show are passed over."""

    model_config = ConfigDict(strict=True, extra="ignore")


def read_text(path: Path) -> str:
    """The text of a regular file. Raises ValueError naming it."""
    try:
        data = read_regular(path, most=MOST_BYTES)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return decode_text(data, str(path))


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file; none when it is missing. Raises ValueError naming it."""
    if not _is_there(path):
        return {}
    text = read_text(path)
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise ValueError(f"{path}: is not valid TOML ({reason})") from None
    if _is_deeper(values, DEEPEST):
        raise ValueError(f"{path}: is nested too deeply")
    return values


def read_json(path: Path) -> dict[str, Any]:
    """The object of a JSON file; empty when it is missing. Raises ValueError naming it."""
    if not _is_there(path):
        return {}
    value = parse_json(read_text(path), str(path))
    if not isinstance(value, dict):
        raise ValueError(f"{path}: holds no JSON object")
    return value


def read_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file and line, object) of each whole line; a last line without its end is still being written, and left out.

    Raises ValueError naming the file and the line.
    """
    if not _is_there(path):
        return
    for place, line in lines(path, whole=True):
        row = parse_json(line, place)
        if not isinstance(row, dict):
            raise ValueError(f"{place}: no JSON object")
        yield place, row


def lines(path: Path, *, whole: bool = False) -> Iterator[tuple[str, str]]:
    """(file and line, text) of the lines that are not blank. Lines end at "\\n" alone. whole: those that do end."""
    texts = read_text(path).split("\n")
    for number, line in enumerate(texts[:-1] if whole else texts, start=1):
        if line.strip():
            yield f"{path}, line {number}", line


def checked(cls: type[Read], values: Any, place: object) -> Read:
    """``values`` as ``cls``. Raises ValueError naming the place and the field."""
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{place}: {where + ': ' if where else ''}{first['msg']}") from None


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None


def _is_deeper(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most):
        level = [
            inner
            for outer in level
            for inner in (
                outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ()
            )
        ]
        if not level:
            return False
    return True

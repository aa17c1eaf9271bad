"""Checked reading of a run's files, which may be damaged or come from anyone; every fault names its file."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from pairuni.io import text as text_files
from pairuni.rewards.checked import LARGEST

DEEPEST = 20
"""Limit for the nesting of tables in a TOML file."""
Read = TypeVar("Read", bound=BaseModel)


def _not_a_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("true and false are not numbers")
    return value


Number = Annotated[
    float, BeforeValidator(_not_a_bool), Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False, strict=True)
]
"""Finite, and small enough to plot."""
Share = Annotated[Number, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, le=int(LARGEST), strict=True)]


class Part(BaseModel):
    """A part of a file; unknown keys are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore")


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file; empty if it is missing. Raises ValueError naming it."""
    text = _read_text(path)
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise ValueError(f"{path}: is not valid TOML ({reason})") from None
    if _is_deeper(values, DEEPEST):
        raise ValueError(f"{path}: is nested too deeply")
    return values


def read_json(path: Path) -> dict[str, Any]:
    """The object of a JSON file; empty if it is missing. Raises ValueError naming it."""
    text = _read_text(path, missing="{}")
    return object_of(text, str(path))


def read_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file and line, object) of each complete line that is not blank; none if the file is missing.

    A last line without its end is still being written, or was cut short by a kill, and is left out. Raises
    ValueError naming file and line.
    """
    for number, line in enumerate(_read_text(path).split("\n")[:-1], start=1):
        if line.strip():
            where = f"{path}, line {number}"
            yield where, object_of(line, where)


def read_undamaged_rows(path: Path) -> tuple[list[tuple[str, dict[str, Any]]], str | None]:
    """The rows of ``read_rows``, and a sentence if the last line is incomplete or damaged, which is left out.

    A power failure may leave such a line. Raises ValueError naming any other damaged line.
    """
    *lines, rest = _read_text(path).split("\n")
    filled = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    rows = []
    for number, line in filled:
        where = f"{path}, line {number}"
        try:
            rows.append((where, object_of(line, where)))
        except ValueError:
            if number != filled[-1][0] or not rows:
                raise
            return rows, f"The last line of {path.name}, line {number}, is damaged and left out."
    if rest.strip():
        return rows, f"The last line of {path.name} is incomplete, being written or cut short, and left out."
    return rows, None


def checked(cls: type[Read], values: Any, where: object) -> Read:
    """``values`` as ``cls``. Raises ValueError, which begins with ``where`` and the field."""
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{where}: {field + ': ' if field else ''}{first['msg']}") from None


def object_of(text: str | bytes, where: str) -> dict[str, Any]:
    """The object of a JSON text. Raises ValueError, which begins with ``where``."""
    value = text_files.parse_json(text, where)
    if not isinstance(value, dict):
        raise ValueError(f"{where}: is not a JSON object")
    return value


def _read_text(path: Path, missing: str = "") -> str:
    try:
        return text_files.read_text(path)
    except FileNotFoundError:
        return missing
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or error}") from None


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

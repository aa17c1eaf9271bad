"""Writing settings as TOML."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pairuni.config.base import Settings


def to_toml(settings: Settings) -> str:
    """The settings as TOML, without None; ``load_settings`` reads it back into an equal object."""
    return tables_to_toml(settings.model_dump(mode="json"))


def tables_to_toml(tables: Mapping[str, Any]) -> str:
    """Nested tables of strings, numbers, truth values and lists as TOML, without None."""
    lines: list[str] = []
    _write_table(tables, (), lines)
    return "\n".join(lines).strip() + "\n"


def _write_table(table: Mapping[str, Any], path: tuple[str, ...], lines: list[str]) -> None:
    tables = {key: value for key, value in table.items() if isinstance(value, Mapping)}
    if path and len(tables) < len(table):
        lines += ["", f"[{'.'.join(path)}]"]
    for key, value in table.items():
        if key not in tables and value is not None:
            lines.append(f"{key} = {toml_value(value)}")
    for key, value in tables.items():
        _write_table(value, (*path, key), lines)


def toml_value(value: Any) -> str:
    """A string, number, truth value or list as TOML."""
    if isinstance(value, list):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")

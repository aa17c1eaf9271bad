"""A run's settings without what belongs to the machine: absolute paths and addresses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pairuni.config.toml import tables_to_toml
from pairuni.sharing.source import Base

_PATH = re.compile(r"(?:(?<=^)|(?<=[:=,\s\"'(]))(?:~|~?/|[A-Za-z]:[\\/])[^\s\"',;)]*")
_ADDRESS = re.compile(r"\w+://|^(localhost|\d+\.\d+\.\d+\.\d+)\b")
_NOTE = "# Settings of the run. Absolute paths are shortened to their last name; addresses are left out.\n\n"


def shared_recipe(settings: Mapping[str, Any], base: Base) -> str:
    """The settings as TOML; where the base model is on the hub, with its name there."""
    cleaned = without_machine(settings)
    if base.hub is not None and not base.earlier_run:
        cleaned = {**cleaned, "policy": {**cleaned.get("policy", {}), "model": base.hub}}
    return _NOTE + tables_to_toml(cleaned)


def without_machine(value: Any) -> Any:
    """A value of settings without absolute paths and addresses, at any depth."""
    if isinstance(value, Mapping):
        return {key: without_machine(one) for key, one in value.items() if not _is_address(one)}
    if isinstance(value, list):
        return [without_machine(one) for one in value if not _is_address(one)]
    return _PATH.sub(_last_name, value) if isinstance(value, str) else value


def _is_address(value: Any) -> bool:
    return isinstance(value, str) and _ADDRESS.search(value) is not None


def _last_name(path: re.Match[str]) -> str:
    return Path(path[0].replace("\\", "/")).name

"""Reading the files of a checkpoint folder, which may be damaged or made to do harm."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pairuni.io import text

MAX_JSON_BYTES = 256 << 20
"""The largest JSON file that is read; Janus's largest is tokenizer.json with 5 MB."""

_LOADER_KEYS = ("attn_implementation", "experts_implementation", "auto_map")
"""Keys of config.json that choose code instead of describing the model; some would fetch it from the hub."""

_MAX_LAYERS = 1024
_COUNTS = ("num_hidden_layers", "layers", "depth", "num_res_blocks")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises ValueError naming the file when there is none."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ValueError(f"{path}: is larger than {MAX_JSON_BYTES >> 20} MiB")
        content = text.read_json(path)
    except (OSError, ValueError) as error:
        said = reason(error).removeprefix(f"{path}: ")
        raise ValueError(f"{path} cannot be read as JSON ({said}); restore the file.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} does not hold a JSON object; restore the file.")
    return content


def optional_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file, empty if there is no such file."""
    return read_json(path) if path.is_file() else {}


def without_loader_keys(config: Any) -> Any:
    """A configuration without the keys that choose code, at any depth."""
    if isinstance(config, dict):
        return {
            key: without_loader_keys(value)
            for key, value in config.items()
            if key not in _LOADER_KEYS and not key.startswith("_")
        }
    return config


def check_numbers(value: Any, key: str = "") -> None:
    """Raise ValueError for NaN, infinities, and counts so large that building the model would not end."""
    if isinstance(value, dict):
        for name, inner in value.items():
            check_numbers(inner, name)
    elif isinstance(value, list):
        if len(value) > _MAX_LAYERS:
            raise ValueError(f"{key} has {len(value)} items")
        for inner in value:
            check_numbers(inner, key)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        most = _MAX_LAYERS if key in _COUNTS else 2**31
        if not math.isfinite(value) or abs(value) > most:
            raise ValueError(f"{key} is {str(value)[:40]}, but at most {most} is possible")


@contextmanager
def described_by(path: Path) -> Iterator[None]:
    """Turn any exception of a library about the content of ``path`` into a ValueError that names the file.

    Only for parsers of other libraries, which raise any kind of error on a damaged file.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # panics of the tokenizers library are not Exceptions
        raise ValueError(f"{path} cannot be read ({reason(error)}); restore the file.") from error


def reason(error: BaseException) -> str:
    """The first line of an error message, of bounded length."""
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    said = lines[0] if lines else type(error).__name__
    return said if len(said) <= 200 else f"{said[:200]} ..."

"""Folders of policies: written whole or not at all, and read without trusting what they hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from pairuni.io import text
from pairuni.io.files import atomic_folder

MAX_JSON_BYTES = 256 << 20
"""The largest JSON file that is read; Janus's largest, tokenizer.json, takes 5 MB."""


def written_aside(folder: Path) -> AbstractContextManager[Path]:
    """An empty folder to save a policy into; its files take their place in ``folder`` when the block ends well.

    In a folder that exists other files stay, but for weights that the new index does not name.
    """
    return atomic_folder(folder, keep_all_but="model*.safetensors*")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises ValueError naming the file when it holds none."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ValueError(f"{path}: is larger than {MAX_JSON_BYTES >> 20} MiB")
        content = text.read_json(path)
    except (OSError, ValueError) as error:
        said = reason(error).removeprefix(f"{path}: ")
        raise ValueError(f"{path} cannot be read as JSON ({said}); restore the file.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no JSON object; restore the file.")
    return content


def optional_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is no such file."""
    return read_json(path) if path.is_file() else {}


@contextmanager
def described_by(path: Path) -> Iterator[None]:
    """Whatever a library raises over the content of ``path`` becomes a ValueError that names the file.

    For the parsers of other libraries alone: they raise what they like on a damaged file.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # the tokenizers library ends in panics that are no Exception
        raise ValueError(f"{path} cannot be read ({reason(error)}); restore the file.") from error


def reason(error: BaseException) -> str:
    """What an error of a library says, in one line of bounded length."""
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    said = lines[0] if lines else type(error).__name__
    return said if len(said) <= 200 else f"{said[:200]} ..."

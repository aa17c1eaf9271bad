"""Models of rewards: found in a folder or on the hub, complete, and loaded once in a process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any, TypeVar

import torch

Loaded = TypeVar("Loaded")

_loading = threading.RLock()


def load_once(maxsize: int) -> Callable[[Callable[..., Loaded]], Callable[..., Loaded]]:
    """Decorate a loader: ``maxsize`` results are cached, and threads that need the same model load it once."""

    def decorate(load: Callable[..., Loaded]) -> Callable[..., Loaded]:
        cached = lru_cache(maxsize=maxsize)(load)

        @wraps(load)
        def locked(*args: Any) -> Loaded:
            with _loading:
                return cached(*args)

        locked.cache_clear = cached.cache_clear  # type: ignore[attr-defined]
        return locked

    return decorate


def local_or_hub(name: str, setting: str) -> str:
    """The absolute path if ``name`` exists on disk, else ``name`` itself if it can be a hub name.

    Raises FileNotFoundError, naming the setting, for a path that does not exist.
    """
    path = Path(name).expanduser()
    if path.exists():
        return str(path.absolute())
    if name.count("/") == 1 and not name.startswith((".", "/", "~")) and not path.suffix:
        return name
    raise FileNotFoundError(f"{name}: no such file or folder; set {setting}")


def load_complete(model_class: Any, folder: str, *, what: str) -> Any:
    """A ``transformers`` model in float32 from the safetensors of a folder.

    what: the model and its source, for the error. Raises ValueError if loading fails or weights are missing.
    """
    try:
        model, loading = model_class.from_pretrained(
            folder, use_safetensors=True, output_loading_info=True, dtype=torch.float32
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"cannot load the {what}: {first_line(error)}") from None
    if absent := sorted(loading["missing_keys"]):
        raise ValueError(f"the {what} has no weights for {absent[0]} ({len(absent)} tensors are missing)")
    return model


def first_line(error: Exception) -> str:
    """The first line of an error that is not blank, or the error's class."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)

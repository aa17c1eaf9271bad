"""Folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_aside(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``folder``; when the block ends well its files take their place there.

    A new folder appears by one rename. In a folder that exists, files are replaced one by one, other files
    stay, and weights that the new index does not name are removed.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = folder.parent / f".{folder.name}.{os.getpid()}.partial"
    aside.mkdir()
    try:
        yield aside
        if not folder.exists():
            aside.rename(folder)
            return
        stale = {path.name for path in folder.glob("model*.safetensors*")}
        for path in sorted(aside.iterdir()):
            os.replace(path, folder / path.name)
            stale.discard(path.name)
        for name in stale:
            (folder / name).unlink()
    finally:
        shutil.rmtree(aside, ignore_errors=True)

"""Thumbnails of a gallery: files named by their content next to the page, or data URIs inside it."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from pairuni.report.images import Thumbnail, thumbnail

LARGEST = 320
"""Longest side in pixels of a gallery's image."""
AHEAD = 64
"""Thumbnails made at a time, which limits memory."""

Source = tuple[str, int, int]
"""What an <img> loads, and its width and height in pixels."""
Advance = Callable[[int, int], None]
Made = TypeVar("Made")


def embed_images(folder: Path, paths: Sequence[str], advance: Advance, *, most: int) -> list[Source | None]:
    """Data URIs of ``folder/paths``, in order; None for an image that is not found.

    Raises ValueError once they exceed ``most`` characters in total.
    """

    def make(path: str) -> Source | None:
        made = thumbnail(folder, path, LARGEST)
        return None if made is None else (made.uri(), made.width, made.height)

    sources = []
    length = 0
    for source in _in_threads(make, paths, advance):
        length += len(source[0]) if source else 0
        if length > most:
            raise ValueError(
                f"the {len(paths):,} images are too large for one page: give a folder to --out, or fewer pairs"
            )
        sources.append(source)
    return sources


def write_images(folder: Path, paths: Sequence[str], target: Path, advance: Advance) -> list[Source | None]:
    """Thumbnails of ``folder/paths`` as files in ``target``; sources relative to ``target``'s parent.

    An existing file is kept, because its name is a digest of its content.
    """
    target.mkdir(parents=True, exist_ok=True)

    def make(path: str) -> Source | None:
        made = thumbnail(folder, path, LARGEST)
        return None if made is None else (f"{target.name}/{_store(made, target)}", made.width, made.height)

    return list(_in_threads(make, paths, advance))


def _store(made: Thumbnail, target: Path) -> str:
    digest = hashlib.sha256(made.data).hexdigest()[:20]
    path = target / f"{digest}.{'png' if made.kind == 'png' else 'jpg'}"
    if path.is_file() and path.stat().st_size == len(made.data):
        return path.name
    # One temporary file per thread, because two threads may write the same content. Files are not flushed one by one,
    # which would take minutes for thousands; a file truncated by a power cut has the wrong size and is written again.
    temporary = path.with_name(f".{path.stem}-{threading.get_ident()}.partial")
    try:
        temporary.write_bytes(made.data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path.name


def _in_threads(make: Callable[[str], Made], paths: Sequence[str], advance: Advance) -> Iterator[Made]:
    """``make`` of each path, in order; PIL decodes outside the interpreter's lock, so threads help."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(paths), AHEAD):
            batch = paths[start : start + AHEAD]
            yield from pool.map(make, batch)
            advance(len(batch), len(paths))

"""Nothing of a user's is ever half written: files are written aside, flushed to the disk, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to; it becomes ``path`` when the block ends well and is removed when it does not.

    The name aside is the same every time, so that what a killed process left is overwritten by the next.
    Raises OSError naming ``path`` when the disk is full or refuses; an earlier file is then untouched.
    """
    aside = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        flush_to_disk(aside)
        os.replace(aside, path)
        flush_to_disk(path.parent)
    except OSError as error:
        reason = f"could not be written ({error.strerror or error}); what was there is intact"
        raise OSError(error.errno, reason, str(path)) from error
    finally:
        aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a whole text file, or leave the old one."""
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")


def flush_to_disk(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

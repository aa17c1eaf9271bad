"""Nothing of a user's is ever half written: files and folders are written aside, flushed, then renamed."""

from __future__ import annotations

import fcntl
import os
import shutil
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


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """One process at a time, of all that name the same file; a process that dies lets the next one in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def replacing_folder(folder: Path, *, keep_all_but: str | None = None) -> Iterator[Path]:
    """An empty folder to fill; it becomes ``folder`` when the block ends well and is removed when it does not.

    A folder that exists is replaced in one rename. With ``keep_all_but``, a glob, it stays: new files take the
    place of old ones one by one, and of the others only those are removed that the glob matches.
    """
    aside = folder.with_name(f".{folder.name}.partial")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _discard(aside)
        aside.mkdir()
        yield aside
        for path in [*sorted(aside.rglob("*")), aside]:
            flush_to_disk(path)
        if keep_all_but is not None and folder.exists():
            _move_into(folder, aside, keep_all_but)
        else:
            if folder.exists():
                remove_folder(folder)
            aside.rename(folder)
        flush_to_disk(folder.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def remove_folder(folder: Path) -> None:
    """Remove a folder; a kill meanwhile leaves nothing that looks whole."""
    doomed = folder.with_name(f".{folder.name}.deleting")
    _discard(doomed)
    folder.rename(doomed)
    shutil.rmtree(doomed)


def clear_partial(root: Path) -> None:
    """Remove the folders that a killed process left half-written or half-deleted under ``root``."""
    for pattern in (".*.partial", ".*.deleting"):
        for leftover in root.glob(pattern):
            shutil.rmtree(leftover)


def flush_to_disk(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _move_into(folder: Path, aside: Path, stale_glob: str) -> None:
    stale = {path.name for path in folder.glob(stale_glob)}
    for path in sorted(aside.iterdir()):
        os.replace(path, folder / path.name)
        stale.discard(path.name)
    for name in stale:
        (folder / name).unlink()


def _discard(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)

"""Atomic writes: a file or folder holds either the old content or the new, even after a kill or a power failure.

Content is written to a temporary name next to its target (``.NAME.partial``), flushed to disk and renamed; then the
parent folder is flushed. The next write of the same name, or ``clear_partial``, removes what a killed process left.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL, DELETING, REPLACED = ".partial", ".deleting", ".replaced"
"""Suffixes of temporary names: being written, being removed, about to be replaced. These names begin with a dot."""

_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}


@contextmanager
def atomic_write(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Yield a temporary path to write to; it replaces ``path`` on success and is removed on an exception.

    sync: flush to disk; not for many small files that can be written again. Raises OSError naming ``path`` when the
    disk is full or not writable; an existing file is then unchanged.
    """
    partial = _temporary(path, PARTIAL)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _discard(partial)
        yield partial
        if sync:
            flush_to_disk(partial)
        os.replace(partial, path)
        if sync:
            flush_to_disk(path.parent)
    except OSError as error:
        reason = f"could not be written ({error.strerror or error}); the old content is intact"
        raise OSError(error.errno, reason, str(path)) from error
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def atomic_folder(folder: Path, *, keep_all_but: str | None = None) -> Iterator[Path]:
    """Yield an empty temporary folder to fill; it becomes ``folder`` on success and is removed on an exception.

    An existing folder is replaced. With ``keep_all_but``, a glob, it is updated instead: new files replace old ones
    one by one, and only old files that match the glob are removed.
    """
    partial = _temporary(folder, PARTIAL)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _discard(partial)
        partial.mkdir()
        yield partial
        for path in [*sorted(partial.rglob("*")), partial]:
            flush_to_disk(path)
        if keep_all_but is not None and folder.exists():
            _move_into(folder, partial, keep_all_but)
        else:
            _replace_folder(folder, partial)
        flush_to_disk(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def remove_folder(folder: Path) -> None:
    """Remove a folder; it is renamed first, so that a kill leaves no folder that seems complete."""
    doomed = _temporary(folder, DELETING)
    _discard(doomed)
    folder.rename(doomed)
    shutil.rmtree(doomed)


def clear_partial(root: Path) -> None:
    """Remove temporary files and folders that a killed process left in ``root``.

    If the replacement of a folder was interrupted between its two renames, the old folder gets its name back.
    """
    for leftover in root.glob(f".*{REPLACED}"):
        folder = leftover.with_name(leftover.name[1 : -len(REPLACED)])
        if leftover.is_dir() and not leftover.is_symlink() and not os.path.lexists(folder):
            leftover.rename(folder)
    for suffix in (PARTIAL, DELETING, REPLACED):
        for leftover in root.glob(f".*{suffix}"):
            _discard(leftover)


def flush_to_disk(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_regular(path: Path, *, most: int) -> bytes:
    """The bytes of a regular file of at most ``most`` bytes, without blocking on pipes or opening devices.

    Raises OSError for a missing file, a folder, a pipe, a socket or a device, and ValueError for a larger file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            kind = _KINDS.get(stat.S_IFMT(status.st_mode), "a device")
            raise OSError(errno.EINVAL, f"is {kind}, not a file")
        if status.st_size > most:
            raise ValueError(f"has {status.st_size:,} bytes; at most {most:,} are read")
        data = os.read(descriptor, status.st_size)
        while len(data) < status.st_size and (more := os.read(descriptor, status.st_size - len(data))):
            data += more
        return data
    finally:
        os.close(descriptor)


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _replace_folder(folder: Path, partial: Path) -> None:
    replaced = _temporary(folder, REPLACED)
    _discard(replaced)
    if folder.exists():
        folder.rename(replaced)
    partial.rename(folder)
    flush_to_disk(folder.parent)
    _discard(replaced)


def _move_into(folder: Path, partial: Path, stale_glob: str) -> None:
    stale = {path.name for path in folder.glob(stale_glob)}
    for path in sorted(partial.iterdir()):
        os.replace(path, folder / path.name)
        stale.discard(path.name)
    for name in stale:
        (folder / name).unlink()


def _temporary(path: Path, suffix: str) -> Path:
    return path.with_name(f".{path.name}{suffix}")


def _discard(path: Path) -> None:
    """Remove a file, a link or a folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

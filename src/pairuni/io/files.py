"""Files and folders that are either whole or absent, also after a kill or a power failure.

Everything is written under another name beside its place (``.NAME.partial``), flushed to the disk, renamed in one
step, and then the folder that lists the name is flushed too. After a kill the old content or the new one is there,
never a mixture. What a killed process left aside is removed by the next one that writes the same name, and by
``clear_partial``; nobody else's files are touched.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL, DELETING, REPLACED = ".partial", ".deleting", ".replaced"
"""How the names end of what is being written, removed, or about to be replaced; they begin with a dot."""

_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to; it becomes ``path`` when the block ends well and is removed when it does not.

    The name aside is the same every time, so that what a killed process left is replaced by the next.
    Raises OSError naming ``path`` when the disk is full or refuses; an earlier file is then untouched.
    """
    aside = _beside(path, PARTIAL)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _discard(aside)
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


def read_regular(path: Path, *, most: int) -> bytes:
    """The bytes of a regular file of at most ``most`` bytes; nothing is waited for and nothing else is opened.

    Raises OSError, also for a folder, a named pipe, a socket or a device, and ValueError for a file that is larger.
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

    A folder that exists is renamed, and removed when the new one is in its place. With ``keep_all_but``, a glob, it
    stays: new files take the place of old ones one by one, and of the others only those are removed that the glob
    matches.
    """
    aside = _beside(folder, PARTIAL)
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
            replaced = _beside(folder, REPLACED)
            _discard(replaced)
            if folder.exists():
                folder.rename(replaced)
            aside.rename(folder)
            flush_to_disk(folder.parent)
            _discard(replaced)
        flush_to_disk(folder.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def remove_folder(folder: Path) -> None:
    """Remove a folder; a kill meanwhile leaves nothing that looks whole."""
    doomed = _beside(folder, DELETING)
    _discard(doomed)
    folder.rename(doomed)
    shutil.rmtree(doomed)


def clear_partial(root: Path) -> None:
    """Remove what a killed process left half written or half deleted in ``root``, files and folders alike.

    A folder that a kill caught between its two renames gets its name back.
    """
    for leftover in root.glob(f".*{REPLACED}"):
        folder = leftover.with_name(leftover.name[1 : -len(REPLACED)])
        if leftover.is_dir() and not leftover.is_symlink() and not os.path.lexists(folder):
            leftover.rename(folder)
    for suffix in (PARTIAL, DELETING, REPLACED):
        for leftover in root.glob(f".*{suffix}"):
            _discard(leftover)


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


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f".{path.name}{suffix}")


def _discard(path: Path) -> None:
    """Remove a file, a link or a folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

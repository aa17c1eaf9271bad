"""Locks: only one process at a time writes to a folder.

A lock is an ``flock`` on a file, which the kernel releases however the process ends. The file names its holder for
the error message of a second process. On a network file system ``flock`` may not reach other machines, and some file
systems do not support it; there the content of the file decides.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

LOCK = ".pairuni.lock"
"""Name of the lock file in the folder that it guards."""

_NETWORK = (
    *("nfs", "cifs", "smb", "fuse", "lustre", "gpfs"),
    *("beegfs", "ceph", "9p", "afs", "virtiofs", "glusterfs"),
)
"""Prefixes of the types of network file systems."""
_NO_FLOCK = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
_ADVICE = "wait until it ends, or choose another folder"
_held: set[int] = set()


class FolderInUse(ValueError):
    """Another process writes to the folder; the message names its id, machine and command."""


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Wait until no other process holds the lock file ``path``, then hold it; a dead process releases it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def folder_lock(folder: Path, command: str, *, rank: int = 0) -> Iterator[None]:
    """Lock ``folder``, creating it if needed, for a command; the lock file is removed at the end.

    rank: processes that share the work of one command hold one lock each, by rank. A lock that a dead process left
    is taken over. Raises FolderInUse when another process holds the lock, NotADirectoryError for a file.
    """
    if folder.is_file():
        raise NotADirectoryError(f"{folder} is a file, not a folder to write to; choose another name")
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _locked(folder / f"{LOCK}{_suffix(rank)}", folder, command):
            yield
    finally:
        if made:
            with suppress(OSError):  # remove the folder only if the command wrote nothing
                folder.rmdir()


@contextmanager
def target_lock(target: Path, command: str, *, rank: int = 0) -> Iterator[None]:
    """Lock a file or folder that is replaced atomically, by a lock file next to it. Otherwise as ``folder_lock``."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target.with_name(f".{target.name}.lock{_suffix(rank)}"), target, command):
        yield


def seems_in_use(folder: Path) -> bool:
    """Whether a command seems to write to ``folder``: its lock file names a live process, or another machine.

    The lock is not tried, so that no command finds it taken by this question.
    """
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        holder = _holder(descriptor)
    except OSError:  # not a regular file
        return False
    finally:
        os.close(descriptor)
    return bool(holder) and (_elsewhere(holder) or _alive(holder))


def _suffix(rank: int) -> str:
    return f".{rank}" if rank else ""


@contextmanager
def _locked(path: Path, what: Path, command: str) -> Iterator[None]:
    descriptor = _acquire(path, what)
    _held.add(descriptor)
    try:
        _describe(descriptor, command)
        yield
    finally:
        # unlinked while held, so that a process that waits for it notices
        path.unlink(missing_ok=True)
        _held.discard(descriptor)
        os.close(descriptor)


def _acquire(path: Path, what: Path) -> int:
    while True:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o644)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ValueError(f"{path} is not a regular file, so it cannot be a lock; remove it")
            _take(descriptor, path, what)
            if _same_file(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _take(descriptor: int, path: Path, what: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _holder(descriptor, wait=True)
        raise FolderInUse(f"{what} is in use by {_named(holder)}; {_ADVICE}") from None
    except OSError as error:
        if error.errno not in _NO_FLOCK:
            raise
        holder = _holder(descriptor)
        if holder and (_elsewhere(holder) or _alive(holder)):
            raise FolderInUse(_unsure(what, path, holder)) from None
        return
    holder = _holder(descriptor)
    if holder and _elsewhere(holder) and _on_network(path):
        raise FolderInUse(_unsure(what, path, holder))


def _unsure(what: Path, path: Path, holder: Mapping[str, Any]) -> str:
    return f"{what} is in use by {_named(holder)}; {_ADVICE}. If that process has ended, delete {path}"


def _describe(descriptor: int, command: str) -> None:
    own = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "command": command,
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "boot": _boot(),
        "started": _started(os.getpid()),
    }
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, (json.dumps(own) + "\n").encode(), 0)


def _holder(descriptor: int, *, wait: bool = False) -> dict[str, Any]:
    """The holder named in the lock file, empty if there is none. wait: the holder may be about to write it."""
    for _ in range(20 if wait else 1):
        try:
            found = json.loads(os.pread(descriptor, 4096, 0))
            if isinstance(found, dict):
                return found
        except (ValueError, RecursionError):
            pass
        if wait:
            time.sleep(0.01)
    return {}


def _named(holder: Mapping[str, Any]) -> str:
    if not holder:
        return "another process"
    pid, host, command, since = (
        str(holder.get(key, "?"))[:80] for key in ("pid", "host", "command", "since")
    )
    return f"process {pid} on {host} (pairuni {command}, since {since})"


def _elsewhere(holder: Mapping[str, Any]) -> bool:
    """Whether another machine wrote it. Containers on one machine share its boot id, even with different host names."""
    if holder.get("boot") and _boot():
        return holder["boot"] != _boot() and holder.get("host") != socket.gethostname()
    return holder.get("host") != socket.gethostname()


def _alive(holder: Mapping[str, Any]) -> bool:
    """Whether that process of this machine still runs; a reused process id has another start time."""
    pid = holder.get("pid")
    if not isinstance(pid, int) or isinstance(pid, bool) or not 0 < pid < 2**31 or pid == os.getpid():
        return False
    if holder.get("boot") != _boot():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it runs as another user
    return holder.get("started") in (None, _started(pid))


def _started(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot; None without /proc."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _on_network(path: Path) -> bool:
    """Whether the file system may be shared with machines that do not see its locks."""
    try:
        device = os.stat(path).st_dev
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return False
    wanted = f"{os.major(device)}:{os.minor(device)}"
    kinds = [line.partition(" - ")[2].split()[0] for line in mounts if line.split()[2:3] == [wanted]]
    return any(kind.startswith(_NETWORK) for kind in kinds)


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        own, named = os.fstat(descriptor), os.stat(path)
    except FileNotFoundError:
        return False
    return (own.st_dev, own.st_ino) == (named.st_dev, named.st_ino)


def _close_inherited() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


# a forked child would otherwise keep the lock after its parent was killed
os.register_at_fork(after_in_child=_close_inherited)

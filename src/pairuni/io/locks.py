"""One process at a time in a folder that a command writes to.

The lock is an ``flock`` on a file, which the kernel frees however the process ends. The file says who holds it, for
the sentence that refuses a second process. On a network file system ``flock`` may not reach other machines, and some
file systems have none; there the file's content decides.
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
"""The lock's name in the folder that it guards."""

_NETWORK = (
    "nfs",
    "cifs",
    "smb",
    "fuse",
    "lustre",
    "gpfs",
    "beegfs",
    "ceph",
    "9p",
    "afs",
    "virtiofs",
    "glusterfs",
)
_NO_FLOCK = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
_held: set[int] = set()


class FolderInUse(ValueError):
    """Another process writes to the folder; names its id, machine and command."""


@contextmanager
def folder_lock(folder: Path, command: str, *, rank: int = 0) -> Iterator[None]:
    """Hold ``folder``, which is made if need be, for a command; the file is removed at the end.

    rank: processes that share one command's work hold a lock each, by rank. Raises FolderInUse when another process
    holds the same lock. What a process that died left behind is taken over.
    """
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _locked(folder / f"{LOCK}{_suffix(rank)}", folder, command):
            yield
    finally:
        if made:
            with suppress(OSError):  # a command that wrote nothing leaves no empty folder
                folder.rmdir()


@contextmanager
def target_lock(target: Path, command: str, *, rank: int = 0) -> Iterator[None]:
    """Hold a file or folder that is written as a whole, by a lock beside it. Otherwise as ``folder_lock``."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target.with_name(f".{target.name}.lock{_suffix(rank)}"), target, command):
        yield


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
        # removed while it is held, so that a waiting process notices that the file is gone
        path.unlink(missing_ok=True)
        _held.discard(descriptor)
        os.close(descriptor)


def _acquire(path: Path, what: Path) -> int:
    while True:
        descriptor = os.open(
            path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644
        )
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
    except OSError as error:
        if isinstance(error, BlockingIOError):
            raise FolderInUse(
                f"{what} is in use by {_named(_holder(descriptor, wait=True))}; {_ADVICE}"
            ) from None
        if error.errno not in _NO_FLOCK:
            raise
        holder = _holder(descriptor)
        if holder and (_elsewhere(holder) or _alive(holder)):
            raise FolderInUse(_unsure(what, path, holder)) from None
        return
    holder = _holder(descriptor)
    if holder and _elsewhere(holder) and _on_network(path):
        raise FolderInUse(_unsure(what, path, holder))


_ADVICE = "wait for its end, or give another folder"


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
    """What the file says; empty when it says nothing. wait: its holder may be about to write it."""
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
    """Whether another running kernel wrote it. Containers of one machine share theirs, whatever they are called."""
    if holder.get("boot") and _boot():
        return holder["boot"] != _boot() and holder.get("host") != socket.gethostname()
    return holder.get("host") != socket.gethostname()


def _alive(holder: Mapping[str, Any]) -> bool:
    """Whether that process of this machine still runs: a process id that is used again started at another time."""
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
        pass  # it runs, as somebody else
    return holder.get("started") in (None, _started(pid))


def _started(pid: int) -> int | None:
    """When a process started, in clock ticks since the machine did; None where /proc does not tell."""
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
    """Whether other machines may see the file system without seeing its locks."""
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


def _forget() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


# a forked child would keep the lock after its parent was killed
os.register_at_fork(after_in_child=_forget)

"""Locks of folders: one process at a time, also after kills and across machines."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from pairuni.io import locks
from pairuni.io.locks import LOCK, FolderInUse, folder_lock, target_lock

HOLDER = """
    import os, sys, time
    from pathlib import Path
    from pairuni.io.locks import folder_lock
    with folder_lock(Path(sys.argv[1]), "train"):
        if sys.argv[2] == "forks":
            runs, says = os.pipe()
            if os.fork() == 0:
                os.write(says, b".")
                time.sleep(60)
            os.read(runs, 1)  # the child has closed its copy of the lock
        print("held", flush=True)
        time.sleep(60)
"""


def hold(folder: Path, how: str = "alone") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(HOLDER), str(folder), how]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert running.stdout is not None
    assert running.stdout.readline() == "held\n"
    return running


def end(running: subprocess.Popen[str]) -> None:
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()


def enter(folder: Path, **options: Any) -> None:
    with folder_lock(folder, "train", **options):
        pass


@pytest.mark.parametrize("how", ["alone", "forks"])
def test_a_second_process_is_refused_and_a_dead_ones_lock_is_taken_over(tmp_path: Path, how: str) -> None:
    folder = tmp_path / "run"
    running = hold(folder, how)
    try:
        said = rf"run is in use by process {running.pid} on {socket.gethostname()} \(pairuni train, since \d{{4}}-"
        with pytest.raises(FolderInUse, match=said):
            enter(folder)
        enter(folder, rank=1)
        os.kill(running.pid, signal.SIGKILL)  # its child lives on
        running.wait()
        assert (folder / LOCK).exists()
        enter(folder)
        assert not (folder / LOCK).exists()
    finally:
        end(running) if running.poll() is None or how == "forks" else None


def test_nothing_stays_behind(tmp_path: Path) -> None:
    enter(tmp_path / "made")
    assert list(tmp_path.iterdir()) == []
    with folder_lock(tmp_path / "used", "train"):
        (tmp_path / "used" / "file").write_text("x")
    with pytest.raises(KeyError), target_lock(tmp_path / "model", "export"):
        raise KeyError
    assert [path.name for path in tmp_path.rglob("*")] == ["used", "file"]


def left(folder: Path, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    own = {"pid": os.getpid(), "host": socket.gethostname(), "command": "train", "since": "then"}
    own |= {"boot": locks._boot(), "started": locks._started(os.getpid())}
    (folder / LOCK).write_text(json.dumps(own | changes))
    return folder


ELSEWHERE = {"host": "node-7", "boot": "another", "pid": 4242}


def test_a_lock_of_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = left(tmp_path / "run", **ELSEWHERE)
    enter(folder)  # the disk is this machine's own: nobody else can hold it
    monkeypatch.setattr(locks, "_on_network", lambda path: True)
    left(folder, **ELSEWHERE)
    with pytest.raises(
        FolderInUse, match=r"process 4242 on node-7 .* If that process has ended, delete .*lock"
    ):
        enter(folder)
    enter(left(folder, host="a-container"))  # the same kernel under another name


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_flock_the_files_content_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        alive = {"pid": sleeper.pid, "started": locks._started(sleeper.pid)}
        with pytest.raises(FolderInUse, match=f"process {sleeper.pid} on"):
            enter(left(tmp_path / "run", **alive))
        enter(left(tmp_path / "run", **alive | {"started": 1}))  # the id is used again
        with pytest.raises(FolderInUse, match="on node-7"):
            enter(left(tmp_path / "run", **ELSEWHERE))
    finally:
        sleeper.kill()
        sleeper.wait()
    enter(left(tmp_path / "run", **alive))


@pytest.mark.parametrize(
    "content", ["", "{", "[1]", "null", '{"pid": "x"}', '{"pid": 1e400}', "[" * 9000, "\0\0"]
)
def test_a_lock_file_that_nobody_holds_is_free_whatever_its_content(tmp_path: Path, content: str) -> None:
    (tmp_path / LOCK).write_text(content)
    enter(tmp_path)
    (tmp_path / LOCK).write_text(content)
    descriptor = os.open(tmp_path / LOCK, os.O_RDWR)
    locks.fcntl.flock(descriptor, locks.fcntl.LOCK_EX)
    with pytest.raises(FolderInUse):
        enter(tmp_path)
    os.close(descriptor)


def test_a_lock_that_is_not_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / LOCK)
    with pytest.raises(ValueError, match="not a regular file"):
        enter(tmp_path)
    (tmp_path / LOCK).unlink()
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / LOCK).symlink_to(tmp_path / "theirs")
    with pytest.raises(OSError, match=LOCK):
        enter(tmp_path)
    assert (tmp_path / "theirs").read_text() == "theirs"

"""A `python` and a `pairuni` that have imported torch and transformers before they start.

The imports of a command take several seconds. A server does them once and forks for each call, with the caller's
arguments, environment, folder and standard streams. A killed caller does not end its fork, so tests that kill
processes use the real interpreter.

``python warm_python.py ADDRESS`` is the server; it ends when its standard input closes.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import Any

_PRELOADED = [
    *("transformers.models.janus.modeling_janus", "transformers.models.llama.modeling_llama"),
    *(
        "pairuni.cli.app",
        "pairuni.cli.evaluate",
        "pairuni.cli.models",
        "pairuni.cli.pairs",
        "pairuni.cli.training",
    ),
    *("pairuni.api.training", "pairuni.pairug.build", "pairuni.report.page", "torch.distributed.fsdp"),
]
_CLIENT = """\
#!{python} -ES
import json, os, signal, socket, struct, sys

with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    call = json.dumps([{words!r} + sys.argv[1:], sys.argv[0], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [struct.pack("q", len(call))], [0, 1, 2])
    server.sendall(call)
    answers = server.makefile("rb")
    child, = struct.unpack("q", answers.read(8))
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: os.kill(child, number))
    code, = struct.unpack("q", answers.read(8))
if code < 0:
    if code != -signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


class WarmPython:
    """The two programs in ``folder``, which may lead the PATH of a command, and their server."""

    def __init__(self) -> None:
        # not a test's folder: the address of a socket has at most 107 bytes
        self.folder = Path(tempfile.mkdtemp(prefix="warm-"))
        self.python = str(self.folder / "python")
        address = str(self.folder / "socket")
        for name, words in (("python", []), ("pairuni", ["-m", "pairuni"])):
            program = self.folder / name
            program.write_text(_CLIENT.format(python=sys.executable, address=address, words=words))
            program.chmod(0o755)
        self._server = subprocess.Popen(
            [sys.executable, __file__, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._server.stdout is not None
        assert self._server.stdout.read(1) == b".", "the server has not started"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a command that calls them."""
        return {**os.environ, "PATH": f"{self.folder}{os.pathsep}{os.environ['PATH']}"}

    def close(self) -> None:
        self._server.communicate()
        shutil.rmtree(self.folder)


def _serve(address: str) -> list[Any]:
    """Fork for each call; returns the call in the fork that does it."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        os.write(1, b".")
        while True:
            ready, _, _ = select.select([listener, sys.stdin], [], [])
            if listener not in ready:
                os._exit(0)
            connection, _ = listener.accept()
            if os.fork() == 0:
                break
            connection.close()
    if os.fork() == 0:
        # the server need not wait for it
        call = _received(connection)
        if call is not None:
            return call
    os._exit(0)


def _received(connection: socket.socket) -> list[Any] | None:
    """Read a call and fork; None in the parent, after the end of the fork."""
    size, streams, _, _ = socket.recv_fds(connection, 8, 3)
    call: list[Any] = json.loads(connection.makefile("rb").read(*struct.unpack("q", size)))
    if (child := os.fork()) == 0:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        for stream in (*streams, connection.detach()):
            os.close(stream)
        return call
    for stream in streams:
        os.close(stream)
    connection.sendall(struct.pack("q", child))
    _, status = os.waitpid(child, 0)
    connection.sendall(struct.pack("q", os.waitstatus_to_exitcode(status)))
    return None


def _run(words: list[str], program: str, folder: str, environment: dict[str, str]) -> None:
    """Do what ``program`` with ``words`` does: -m MODULE, -c CODE or a file."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.executable = str(Path(program).with_name("python"))
    sys.path[:0] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    while words[0] == "-u":
        words = words[1:]
    if words[0] == "-m":
        sys.argv = words[1:]
        sys.path.insert(0, folder)
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        sys.path.insert(0, "")
        main = type(sys)("__main__")
        sys.modules["__main__"] = main
        exec(compile(words[1], "<string>", "exec"), main.__dict__)
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")


def _code_of(stop: SystemExit) -> int:
    if isinstance(stop.code, int):
        return stop.code
    if stop.code is not None:
        print(stop.code, file=sys.stderr)
    return int(stop.code is not None)


if __name__ == "__main__":
    sys.path.pop(0)
    for name in _PRELOADED:
        importlib.import_module(name)
    assert threading.active_count() == 1, "a fork would lose the other threads"
    # collections in a fork would copy every page of the server
    gc.freeze()
    call = _serve(sys.argv[1])
    code = 1
    try:
        _run(*call)
        code = 0
    except SystemExit as stop:
        code = _code_of(stop)
    except BaseException:
        traceback.print_exc()
    # as at the end of an interpreter, but without the teardown of modules, which takes a second
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code)

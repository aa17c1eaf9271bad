"""Reward servers for tests: ours, in process and as a command, and one with scripted misbehaviour."""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from PIL import Image

from pairuni.config import RemoteSettings
from pairuni.records import Annotation
from pairuni.rewards.service.limits import Limits
from pairuni.rewards.service.remote import RemoteReward
from pairuni.rewards.service.server import RewardServer
from pairuni.rewards.service.wire import pack

TOKEN = "open-sesame-1234"
HEAD = b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"

Act = Callable[[BaseHTTPRequestHandler], None]


def records(count: int, prompt: str = "a thing") -> list[Annotation]:
    return [
        Annotation(image_path=f"{i}.png", prompt=prompt, question="q", answer="a", id=i, weight={"times": i})
        for i in range(count)
    ]


def images(count: int) -> list[Image.Image]:
    return [Image.new("RGB", (6, 4), (i % 256, 7, 9)) for i in range(count)]


def client(url: str, **settings: Any) -> RemoteReward:
    return RemoteReward(RemoteSettings(**{"url": url, "timeout": 20.0, **settings}), backoff=0.01)


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.01)


class Red:
    """The red of an image's corner."""

    name = "red"

    def __call__(self, records: Any, samples: Any) -> list[float]:
        return [float(sample.getpixel((0, 0))[0]) for sample in samples]


class Gated:
    """A reward that waits until its gate opens and counts its calls; call n scores n / 2."""

    name = "gated"

    def __init__(self) -> None:
        self.gate, self.calls = threading.Event(), 0

    def __call__(self, records: Any, samples: Any) -> list[float]:
        self.calls += 1
        score = 0.5 * self.calls
        self.gate.wait(60)
        return [score] * len(samples)


@contextmanager
def inside(server: ThreadingHTTPServer | RewardServer) -> Iterator[str]:
    """The URL of a server that runs in this process."""
    poll = () if isinstance(server, RewardServer) else (0.02,)
    threading.Thread(target=server.serve_forever, args=poll, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def serving(
    reward: Any, token: str = "", *, limit: float | None = None, **limits: Any
) -> Iterator[tuple[str, RewardServer]]:
    """URL and server of a reward in this process."""
    server = RewardServer(reward, ("127.0.0.1", 0), token, limit=limit, limits=Limits(**limits))
    with inside(server) as url:
        yield url, server


@contextmanager
def command(folder: Path, *words: str, **environment: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """URL and process of ``pairuni serve-reward``, run in the folder."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pairuni", "serve-reward", *words, "--port", "0"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "/score" in line, process.stderr.read() if process.stderr else ""
        yield line.split()[1].removesuffix("/score"), process
    finally:
        process.kill()
        process.wait()


class Odd(ThreadingHTTPServer):
    """A server that treats the nth request to /score by the nth act, and all further ones by the last act."""

    daemon_threads = True

    def __init__(self, *acts: Act, health: Any = None) -> None:
        self.acts, self.requests = acts, 0
        about = health or {"name": "odd", "range": [0, 1], "needs": []}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                reply(200, about)(self)

            def do_POST(handler) -> None:
                handler.rfile.read(int(handler.headers["Content-Length"]))
                self.requests += 1
                self.acts[min(self.requests, len(self.acts)) - 1](handler)

            def log_message(self, *args: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)


def reply(status: int, content: Any, **headers: str) -> Act:
    def act(handler: BaseHTTPRequestHandler) -> None:
        data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(data)

    return act


def drop(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.close()


def cut(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "100")
    handler.end_headers()
    handler.wfile.write(b'{"scores": [')


def hang(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(1.0)


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def received(one: socket.socket) -> bytes:
    """All that the server sends until it closes."""
    content = b""
    with suppress(ConnectionError):
        while piece := one.recv(1 << 16):
            content += piece
    return content


def ask(port: int, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, Any, Any]:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body or None, {k.replace("_", "-"): v for k, v in headers.items()})
        response = connection.getresponse()
        return response.status, json.loads(response.read()), response.headers
    finally:
        connection.close()


def bomb(side: int, filling: int) -> bytes:
    """A request with a PNG of ``filling`` bytes whose header promises side x side pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    body = json.loads(pack(records(1), images(1)))
    png = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", bytes(filling)) + chunk(b"IEND", b"")
    body["samples"] = [{"png": base64.b64encode(png).decode()}]
    return json.dumps(body).encode()

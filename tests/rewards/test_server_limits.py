"""The limits of the reward server with clients that stall and flood, and its shutdown."""

from __future__ import annotations

import random
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

import pytest

from pairuni.rewards.service.wire import pack
from reward_servers import (
    HEAD,
    TOKEN,
    Gated,
    Red,
    ask,
    bomb,
    client,
    command,
    connect,
    images,
    received,
    records,
    serving,
    wait_until,
)

BODY = pack(records(1), images(1))


def drip(one: socket.socket, piece: bytes) -> None:
    """Send the piece again and again until the server closes the connection, which must happen soon."""
    began = time.monotonic()
    with suppress(ConnectionError):
        while time.monotonic() - began < 15:
            one.sendall(piece)
            time.sleep(0.05)
    assert time.monotonic() - began < 15


def test_slow_headers_and_silent_connections_are_cut_off() -> None:
    with serving(Red(), head_seconds=0.4) as (url, server):
        silent, slow = connect(server.server_port), connect(server.server_port)
        slow.sendall(b"POST /score HTTP/1.1\r\n")
        drip(slow, b"X: y\r\n")
        assert received(silent) == b""
        assert client(url)(records(2), images(2)) == [0.0, 1.0]


def test_slow_bodies_are_cut_off_with_a_reason() -> None:
    with serving(Red(), body_seconds=0.5) as (url, server):
        slow = connect(server.server_port)
        slow.sendall(HEAD % 1000)
        drip(slow, b" ")
        halted = connect(server.server_port)
        halted.sendall(HEAD % 1000 + b'{"rec')
        content = received(halted)
        assert content.startswith(b"HTTP/1.1 408 ")
        assert b"within 0.5 seconds" in content
        assert client(url)(records(2), images(2)) == [0.0, 1.0]


def test_a_refused_body_does_not_hold_its_connection() -> None:
    with serving(Red(), TOKEN, body_seconds=0.3, head_seconds=0.3) as (_, server):
        one = connect(server.server_port)
        one.sendall(HEAD % 1_000_000)
        assert one.recv(1000).startswith(b"HTTP/1.1 401 ")
        drip(one, b" ")


def test_a_connection_that_waits_for_its_score_is_not_idle() -> None:
    gated = Gated()
    with serving(gated, head_seconds=0.3, body_seconds=0.3) as (_, server):
        one = connect(server.server_port)
        one.sendall(HEAD % len(BODY) + BODY)
        threading.Timer(1.0, gated.gate.set).start()
        assert b'{"scores": [0.5]}' in received(one)  # and then the idle connection is closed


def test_connections_beyond_the_limit_are_told_to_come_again() -> None:
    with serving(Red(), connections=4) as (url, server):
        held = [connect(server.server_port) for _ in range(4)]
        content = received(connect(server.server_port))
        assert content.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1\r\n" in content.lower()
        assert b'"error": ' in content
        threading.Timer(0.5, lambda: [one.close() for one in held]).start()
        assert client(url, max_retries=0)(records(1), images(1)) == [0.0]


def test_requests_beyond_the_limit_wait_at_the_client() -> None:
    gated = Gated()
    with serving(gated, requests=2) as (url, server), ThreadPoolExecutor(2) as pool:
        for count in (1, 2):
            pool.submit(ask, server.server_port, "POST", "/score", pack(records(count), images(count)))
        wait_until(lambda: server._service._requests == 2)
        status, content, headers = ask(server.server_port, "POST", "/score", pack(records(3), images(3)))
        assert (status, headers["Retry-After"]) == (503, "1")
        assert "limit of requests" in content["error"]
        threading.Timer(0.3, gated.gate.set).start()
        reward = client(url, batch_size=1, concurrency=6, max_retries=0)
        assert sorted(reward(records(9)[3:], images(9)[3:])) == [0.5 * call for call in range(3, 9)]
        assert gated.calls == 8


def test_a_request_that_is_not_scored_in_time_is_joined_when_it_comes_again() -> None:
    gated = Gated()
    with serving(gated, reply_seconds=0.2) as (url, server):
        status, content, headers = ask(server.server_port, "POST", "/score", BODY)
        assert (status, headers["Retry-After"]) == (503, "1")
        assert "not scored within 0.2 seconds" in content["error"]
        gated.gate.set()
        assert client(url, max_retries=0)(records(1), images(1)) == [0.5]
        assert gated.calls == 1


def test_bodies_in_memory_are_limited_together_and_while_they_arrive() -> None:
    with serving(Red(), body_bytes=1_000_000) as (url, server):
        port, service = server.server_port, server._service
        one = connect(port)
        one.sendall(HEAD % 900_000 + b" " * 800_000)
        wait_until(lambda: service._bytes_arrived == 800_000)
        status, content, headers = ask(port, "POST", "/score", b" " * 500_000)
        assert (status, headers["Retry-After"]) == (503, "1")
        assert "limit of bytes" in content["error"]
        assert client(url)(records(1), images(1)) == [0.0]
        one.close()
        wait_until(lambda: service._bytes_arrived == 0)
        assert ask(port, "POST", "/score", b" " * 500_000)[0] == 400
        assert ask(port, "POST", "/score", b"", Content_Length="1000001")[0] == 413


WAITING = '''
import pathlib, time

class Waiting:
    """Writes the file "started" and waits for the file "go"."""

    name = "waiting"

    def __call__(self, records, samples):
        pathlib.Path("started").touch()
        while not pathlib.Path("go").exists():
            time.sleep(0.05)
        return [float(len(sample)) for sample in samples]
'''


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_stop_finishes_requests_in_flight(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "mine.py").write_text(WAITING)
    with command(tmp_path, "mine:Waiting") as (url, process), ThreadPoolExecutor(1) as pool:
        scores = pool.submit(client(url, max_retries=0), records(1), ["seven"])
        idle = connect(int(url.rpartition(":")[2]))
        wait_until((tmp_path / "started").exists)
        process.send_signal(number)
        assert process.stderr is not None
        assert "stopping: requests in flight have 30 seconds" in process.stderr.readline()
        (tmp_path / "go").touch()
        assert scores.result(20) == [5.0]
        assert process.wait(20) == 0
        idle.close()
        assert "Traceback" not in process.stderr.read()


def test_a_stop_does_not_wait_forever_and_tells_the_clients_that_wait() -> None:
    gated = Gated()
    with (
        serving(gated, stop_seconds=0.3) as (_, server),
        ThreadPoolExecutor(1) as pool,
    ):
        answer = pool.submit(ask, server.server_port, "POST", "/score", BODY)
        wait_until(lambda: gated.calls == 1)
        began = time.monotonic()
        server.shutdown()
        assert time.monotonic() - began < 15
        status, content, headers = answer.result(10)
        assert (status, headers["Retry-After"]) == (503, "1")
        assert "the server is stopping" in content["error"]
        gated.gate.set()


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


@pytest.mark.parametrize(("requests", "threads"), [(150, 16), pytest.param(800, 32, marks=pytest.mark.slow)])
def test_many_requests_with_hostile_ones_among_them(
    monkeypatch: pytest.MonkeyPatch, requests: int, threads: int
) -> None:
    monkeypatch.setenv("PAIRUNI_REWARD_TOKEN", TOKEN)
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    large = bomb(30_000, 500_000)
    raw = (
        b"POST /score HTTP/1.1\r\nHost: x\r\n",
        HEAD % 500_000 + b" " * 900,
        b"\x00\xff" * 500,
    )
    limits = {"connections": 2 * threads, "requests": threads, "head_seconds": 1.0, "body_seconds": 2.0}
    with serving(Red(), TOKEN, **limits) as (url, server):
        port = server.server_port
        reward = client(url, max_retries=8, timeout=60.0)
        before = resident_mb()

        def hostile(number: int) -> str:
            kind = number % 6
            with suppress(OSError, HTTPException):  # the server may cut these off
                if kind == 0:
                    assert ask(port, "POST", "/score", large, **bearer)[0] in (400, 503)
                elif kind == 1:
                    assert ask(port, "POST", "/score", b" " * 300_000)[0] in (401, 503)
                elif kind == 2:
                    assert ask(port, "POST", "/score", b"[" * 100_000, **bearer)[0] in (400, 503)
                else:
                    one = connect(port)
                    one.sendall(raw[kind - 3])
                    if number % 2:
                        one.close()
                    else:
                        received(one)
            return "hostile"

        def good(number: int) -> str:
            shades = [random.Random(number * 7 + i).randrange(256) for i in range(3)]
            samples = [images(256)[shade] for shade in shades]
            assert reward(records(3, f"prompt {number}"), samples) == [float(shade) for shade in shades]
            return "good"

        with ThreadPoolExecutor(threads) as pool:
            ended = list(pool.map(lambda n: hostile(n) if n % 5 == 0 else good(n), range(requests)))
        assert ended.count("good") == requests * 4 // 5
        assert resident_mb() - before < 400
        assert client(url)(records(2), images(2)) == [0.0, 1.0]

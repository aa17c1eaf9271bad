"""The reward server among clients that stall, flood, lie or send nonsense, and when it is told to stop."""

from __future__ import annotations

import base64
import json
import random
import signal
import socket
import struct
import threading
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest
from test_remote import Odd, Slow, client, inside, pictures, records, reply, serving

from pairuni.rewards.checked import RewardError
from pairuni.rewards.service.limits import Limits
from pairuni.rewards.service.server import RewardServer
from pairuni.rewards.service.wire import MOST_VALUES, pack, unpack

TOKEN = "open-sesame-1234"


class Red:
    """The red of an image's corner."""

    name = "red"

    def __call__(self, records: Any, samples: Any) -> list[float]:
        return [float(sample.getpixel((0, 0))[0]) for sample in samples]


@contextmanager
def limited(reward: Any = None, token: str = "", **limits: Any) -> Iterator[tuple[str, int]]:
    server = RewardServer(reward or Red(), ("127.0.0.1", 0), token, limits=Limits(**limits))
    with inside(server) as url:
        yield url, server.server_port


def connect(port: int, *, seconds: float = 20.0) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=seconds)


def heard(one: socket.socket) -> bytes:
    """All that the server sends until it closes."""
    said = b""
    try:
        while piece := one.recv(1 << 16):
            said += piece
    except ConnectionError:
        pass
    return said


def ask(port: int, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, Any, Any]:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body or None, {k.replace("_", "-"): v for k, v in headers.items()})
        response = connection.getresponse()
        return response.status, json.loads(response.read()), response.headers
    finally:
        connection.close()


def test_a_header_that_does_not_end_and_a_connection_that_says_nothing_are_cut_off() -> None:
    with limited(head_seconds=0.4) as (url, port):
        silent, slow = connect(port), connect(port)
        began = time.monotonic()
        slow.sendall(b"POST /score HTTP/1.1\r\n")
        try:
            while time.monotonic() - began < 15:
                slow.sendall(b"X: y\r\n")
                time.sleep(0.05)
        except ConnectionError:
            pass
        assert time.monotonic() - began < 10
        assert heard(silent) == b""
        assert client(url)(records(2), pictures(2)) == [0.0, 1.0]


def test_a_body_that_drips_is_cut_off_with_a_sentence() -> None:
    with limited(body_seconds=0.5) as (url, port):
        slow = connect(port)
        slow.sendall(b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        began = time.monotonic()
        try:
            while time.monotonic() - began < 15:
                slow.sendall(b" ")
                time.sleep(0.05)
        except ConnectionError:
            pass
        assert time.monotonic() - began < 10
        halted = connect(port)
        halted.sendall(b'POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"rec')
        said = heard(halted)
        assert said.startswith(b"HTTP/1.1 408 ")
        assert b"the request did not arrive within 0.5 seconds" in said
        assert client(url)(records(2), pictures(2)) == [0.0, 1.0]


def test_a_refused_body_does_not_hold_its_connection() -> None:
    with limited(token=TOKEN, body_seconds=0.3, head_seconds=0.3) as (_, port):
        one = connect(port)
        one.sendall(b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        assert one.recv(1000).startswith(b"HTTP/1.1 401 ")
        began = time.monotonic()
        try:
            while time.monotonic() - began < 15:
                one.sendall(b" ")
                time.sleep(0.05)
        except ConnectionError:
            pass
        assert time.monotonic() - began < 10


def test_an_idle_connection_is_closed_and_a_long_score_is_not_idle() -> None:
    slow = Slow(1.0)
    with limited(slow, head_seconds=0.3, body_seconds=0.3) as (_, port):
        one = connect(port)
        body = pack(records(1), pictures(1))
        request = b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        one.sendall(request)
        assert b'{"scores": [0.5]}' in heard(one)


def test_connections_beyond_the_limit_are_told_to_come_again() -> None:
    with limited(connections=4) as (url, port):
        held = [connect(port) for _ in range(4)]
        time.sleep(0.2)
        said = heard(connect(port))
        assert said.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1\r\n" in said.lower()
        assert b'"error": ' in said
        threading.Timer(0.5, lambda: [one.close() for one in held]).start()
        assert client(url, max_retries=0)(records(1), pictures(1)) == [0.0]


def test_requests_beyond_the_limit_wait_at_the_client() -> None:
    slow = Slow(0.3)
    with limited(slow, requests=2) as (url, port):
        reward = client(url, batch_size=1, concurrency=6, max_retries=0)
        assert sorted(reward(records(6), pictures(6))) == [0.5 * n for n in range(1, 7)]
        assert slow.asked == 6
        slow.seconds = 2.0
        with ThreadPoolExecutor(2) as pool:
            for i in (1, 2):
                pool.submit(ask, port, "POST", "/score", pack(records(i), pictures(i)))
            time.sleep(0.5)
            status, said, headers = ask(port, "POST", "/score", pack(records(3), pictures(3)))
        assert (status, headers["Retry-After"]) == (503, "1")
        assert said == {"error": "the server has as many requests as it takes: try again in a moment"}


def test_a_request_that_is_not_scored_in_time_is_joined_when_it_comes_again() -> None:
    slow = Slow(1.0)
    with limited(slow, reply_seconds=0.2) as (url, port):
        status, said, headers = ask(port, "POST", "/score", pack(records(1), pictures(1)))
        assert (status, headers["Retry-After"]) == (503, "1")
        assert "was not scored within 0.2 seconds" in said["error"]
        assert client(url, max_retries=0)(records(1), pictures(1)) == [0.5]
        assert slow.asked == 1


def test_bodies_in_memory_are_limited_together_and_while_they_arrive() -> None:
    with limited(body_bytes=1_000_000) as (url, port):
        one = connect(port)
        one.sendall(b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n" + b" " * 800_000)
        time.sleep(0.3)
        status, said, headers = ask(port, "POST", "/score", b" " * 500_000)
        assert (status, headers["Retry-After"]) == (503, "1")
        assert "as many bytes of requests as it takes" in said["error"]
        assert client(url)(records(1), pictures(1)) == [0.0]
        one.close()
        time.sleep(0.3)
        assert ask(port, "POST", "/score", b" " * 500_000)[0] == 400
        assert ask(port, "POST", "/score", b"", Content_Length="1000001")[0] == 413


def test_a_busy_server_is_asked_as_it_wants() -> None:
    def busy(handler: Any) -> None:
        handler.send_response(503)
        handler.send_header("Retry-After", "0")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    server = Odd(*[busy] * 5, reply(200, {"scores": [0.5]}))
    with inside(server) as url:
        assert client(url, max_retries=0)(records(1), pictures(1)) == [0.5]
    assert server.asked == 6


def bomb(side: int, filling: int) -> bytes:
    """A request with a PNG whose header promises side x side pixels, of so many bytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    png = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", bytes(filling)) + chunk(b"IEND", b"")
    body = json.loads(pack(records(1), pictures(1)))
    body["samples"][0]["png"] = base64.b64encode(png).decode()
    return json.dumps(body).encode()


def test_a_image_that_is_too_large_is_refused_by_its_header() -> None:
    body = bomb(30_000, 30_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="more than 134,217,728 pixels"):
            unpack(body)
        assert tracemalloc.get_traced_memory()[1] < 2.2 * len(body)
    finally:
        tracemalloc.stop()


def test_a_request_of_many_small_values_is_refused_before_it_is_read() -> None:
    body = b'{"records": [' + b"[]," * MOST_VALUES + b'[]], "samples": []}'
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="more than 2,097,152 values"):
            unpack(body)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/health?" + "x" * 8000, {}, 400),
        ("/health?a=%00%1b[31m&b=" + "%ff" * 300, {}, 400),
        ("/health?" + "x" * 40_000, {}, 400),
        ("/health", {"Range": "bytes=0-" + "9" * 4000}, 200),
        ("/health", {"Range": "bytes=" + "0-1," * 20_000}, 431),
        ("/health/", {}, 404),
        ("/%2e%2e/%2e%2e/etc/passwd", {}, 404),
        ("//health", {}, 404),
        ("/%1b]0;title%07", {}, 404),
    ],
)
def test_hostile_questions(path: str, headers: dict[str, str], status: int) -> None:
    with limited() as (_, port):
        got, said, _ = ask(port, "GET", path, **headers)
        assert got == status
        assert (list(said) == ["error"]) == (status != 200)
        assert "\x1b" not in json.dumps(said)
        assert ask(port, "GET", "/health")[0] == 200


GOOD = json.loads(pack(records(1), pictures(1)))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[" * 500_000,
        b'{"records":' * 50_000,
        b'{"records": [], "samples": ' + b"9" * 5000 + b"}",
        json.dumps({"records": {}, "samples": []}),
        json.dumps({**GOOD, "records": [None]}),
        json.dumps({**GOOD, "records": [{**GOOD["records"][0], "prompt": 7}]}),
        json.dumps({**GOOD, "records": [{**GOOD["records"][0], "prompt": "\ud800"}]}),
        json.dumps({**GOOD, "samples": [None]}),
        json.dumps({**GOOD, "samples": [{"png": 3}]}),
        json.dumps({**GOOD, "samples": [{"png": "iVBORw0KGgo="}]}),
        json.dumps({**GOOD, "samples": [{"png": "é" * 100}]}),
        json.dumps({**GOOD, "samples": [{"png": base64.b64encode(b"%!PS-Adobe-3.0\n" * 9).decode()}]}),
        json.dumps({**GOOD, "samples": [{"png": GOOD["samples"][0]["png"][:-60]}]}),
        json.dumps({**GOOD, "samples": [{"text": ["no"]}]}),
    ],
    ids=range(17),
)
def test_nonsense_is_a_sentence(body: bytes | str) -> None:
    with limited() as (_, port):
        data = body if isinstance(body, bytes) else body.encode()
        status, said, _ = ask(port, "POST", "/score", data, Content_Length=str(len(data)))
        assert status == 400
        assert list(said) == ["error"]
        assert 10 < len(said["error"]) < 2000


@pytest.mark.parametrize(
    "given", ["", "Bearer", "Bearer open-sesame-123", "Basic " + TOKEN, TOKEN, "Bearer \xff"]
)
def test_a_wrong_token(given: str) -> None:
    with limited(token=TOKEN) as (_, port):
        headers = {"Authorization": given} if given else {}
        for method, path in (("POST", "/score"), ("POST", "/else")):
            status, said, _ = ask(port, method, path, pack(records(1), pictures(1)), **headers)
            assert (status, said) == (401, {"error": "the bearer token is missing or wrong"})


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /health\r\n\r\n",
        b"\x00" * 100_000,
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000,
        b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST /score HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_no_request(garbage: bytes) -> None:
    with limited() as (url, port):
        one = connect(port)
        with suppress(ConnectionError):
            one.sendall(garbage)
        said = heard(one)
        assert not said or said.split(b"\r\n")[0].split()[1][:1] == b"4"
        if said:
            first, _ = json.JSONDecoder().raw_decode(said.partition(b"\r\n\r\n")[2].decode())
            assert list(first) == ["error"]
        assert client(url)(records(1), pictures(1)) == [0.0]


SLOWLY = '''
import time

class Slowly:
    """Scores that take a while."""

    name = "slowly"

    def __call__(self, records, samples):
        time.sleep(records[0].model_extra["weight"]["times"] + 1.5)
        return [float(len(sample)) for sample in samples]
'''


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_stop_finishes_requests_in_flight(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "slow.py").write_text(SLOWLY)
    with serving(tmp_path, "slow:Slowly", "--port", "0") as (url, process):
        reward = client(url, max_retries=0)
        scores: list[float] = []
        thread = threading.Thread(target=lambda: scores.extend(reward(records(1), ["seven"])))
        thread.start()
        idle = connect(int(url.rpartition(":")[2]))
        time.sleep(0.7)
        process.send_signal(number)
        thread.join(20)
        assert scores == [5.0]
        assert process.wait(10) == 0
        idle.close()
        assert process.stderr is not None
        said = process.stderr.read()
        assert "stopping: requests in flight have 30 seconds" in said
        assert "Traceback" not in said


def test_a_stop_does_not_wait_for_ever_and_says_so_to_those_who_wait() -> None:
    slow = Slow(30.0)
    server = RewardServer(slow, ("127.0.0.1", 0), limits=Limits(stop_seconds=0.3))
    with inside(server), ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, server.server_port, "POST", "/score", pack(records(1), pictures(1)))
        time.sleep(0.5)
        began = time.monotonic()
        server.shutdown()
        assert time.monotonic() - began < 10
        status, said, headers = answer.result(10)
        assert (status, headers["Retry-After"]) == (503, "1")
        assert "the server is stopping" in said["error"]


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def test_800_requests_of_32_threads_with_hostile_ones_among_them() -> None:
    limits = {"connections": 64, "requests": 32, "head_seconds": 1.0, "body_seconds": 2.0}
    large = bomb(30_000, 500_000)
    with limited(token=TOKEN, **limits) as (url, port), pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAIRUNI_REWARD_TOKEN", TOKEN)
        reward = client(url, max_retries=8, timeout=60.0)
        before = resident_mb()

        def hostile(number: int) -> str:
            kind = number % 6
            bearer = {"Authorization": f"Bearer {TOKEN}"}
            try:
                if kind == 0:
                    assert ask(port, "POST", "/score", large, **bearer)[0] in (400, 503)
                elif kind == 1:
                    assert ask(port, "POST", "/score", b" " * 300_000)[0] in (401, 503)
                elif kind == 2:
                    assert ask(port, "POST", "/score", b"[" * 100_000, **bearer)[0] in (400, 503)
                else:
                    one = connect(port)
                    one.sendall(
                        (
                            b"POST /score HTTP/1.1\r\nHost: x\r\n",
                            b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n" + b" " * 900,
                            b"\x00\xff" * 500,
                        )[kind - 3]
                    )
                    if number % 2:
                        one.close()
                    else:
                        heard(one)
            except (OSError, HTTPException):
                pass  # cut off: that is what the server may do with it
            return "hostile"

        def good(number: int) -> str:
            shades = [random.Random(number * 7 + i).randrange(256) for i in range(3)]
            samples = [pictures(256)[shade] for shade in shades]
            assert reward(records(3, f"prompt {number}"), samples) == [float(shade) for shade in shades]
            return "good"

        with ThreadPoolExecutor(32) as pool:
            ended = list(pool.map(lambda n: hostile(n) if n % 5 == 0 else good(n), range(800)))
        assert ended.count("good") == 640
        assert resident_mb() - before < 400
        assert client(url)(records(2), pictures(2)) == [0.0, 1.0]


def test_no_token_of_ours_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAIRUNI_REWARD_TOKEN", TOKEN)
    shown = f"Bearer {TOKEN}, {base64.b64encode(b'Bearer ' + TOKEN.encode()).decode()}, %6fpen-sesame%2D1234"
    with inside(Odd(reply(400, {"error": shown}), reply(500, shown))) as url:
        for _ in range(2):
            with pytest.raises(RewardError) as caught:
                client(url, max_retries=0)(records(1), pictures(1))
            said = str(caught.value)
            assert "***" in said
            assert TOKEN not in said
            assert "sesame" not in said
            assert "cGVuLXNlc2FtZS" not in said
    monkeypatch.setenv("PAIRUNI_REWARD_TOKEN", "open-sesame\nX-Other: 1")
    with pytest.raises(ValueError, match="PAIRUNI_REWARD_TOKEN holds a blank, a line end") as wrong:
        client("http://127.0.0.1:9")
    assert "sesame" not in str(wrong.value)
    with pytest.raises(ValueError, match=r"reward\.remote\.token_variable must be the name") as wrong:
        client("http://127.0.0.1:9", token_variable="open-sesame-1234")
    assert "sesame" not in str(wrong.value)


@pytest.mark.parametrize(
    "health",
    [
        {"name": "odd", "range": [0, 10**400], "needs": []},
        {"name": "odd", "range": [1, 0], "needs": []},
        {"name": "odd", "range": [0, "x" * 100_000], "needs": []},
        {"name": "odd", "range": 3, "needs": []},
        {"name": ["odd"], "range": [0, 1], "needs": []},
        {"name": "odd", "range": [0, 1], "needs": [None]},
        {"name": "odd", "range": [0, 1], "needs": 5},
    ],
)
def test_a_server_that_describes_itself_wrongly(health: Any) -> None:
    with (
        inside(Odd(reply(200, {}), health=health)) as url,
        pytest.raises(RuntimeError, match="is no reward server") as caught,
    ):
        client(url)
    assert len(str(caught.value)) < 1000

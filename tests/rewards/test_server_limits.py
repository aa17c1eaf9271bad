"""The reward server with clients that stall, flood, lie or send nonsense, and when it is told to stop."""

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
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pairuni import __version__
from pairuni.rewards.checked import RewardError
from pairuni.rewards.service import wire
from pairuni.rewards.service.wire import MAX_VALUES, pack, unpack
from reward_servers import (
    Gated,
    Odd,
    Red,
    client,
    command,
    images,
    inside,
    records,
    reply,
    serving,
    wait_until,
)

TOKEN = "open-sesame-1234"
HEAD = b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
BODY = pack(records(1), images(1))
GOOD = json.loads(BODY)


@pytest.fixture(scope="module")
def open_port() -> Iterator[int]:
    """The port of a server without a token, which must still work after each test."""
    with serving(Red()) as (_, server):
        yield server.server_port


@pytest.fixture(scope="module")
def closed_port() -> Iterator[int]:
    with serving(Red(), TOKEN) as (_, server):
        yield server.server_port


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def received(one: socket.socket) -> bytes:
    """All that the server sends until it closes."""
    content = b""
    with suppress(ConnectionError):
        while piece := one.recv(1 << 16):
            content += piece
    return content


def drip(one: socket.socket, piece: bytes) -> None:
    """Send the piece again and again until the server closes the connection, which must happen soon."""
    began = time.monotonic()
    with suppress(ConnectionError):
        while time.monotonic() - began < 15:
            one.sendall(piece)
            time.sleep(0.05)
    assert time.monotonic() - began < 15


def ask(port: int, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, Any, Any]:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body or None, {k.replace("_", "-"): v for k, v in headers.items()})
        response = connection.getresponse()
        return response.status, json.loads(response.read()), response.headers
    finally:
        connection.close()


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


def bomb(side: int, filling: int) -> bytes:
    """A request with a PNG of ``filling`` bytes whose header promises side x side pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    png = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", bytes(filling)) + chunk(b"IEND", b"")
    return json.dumps({**GOOD, "samples": [{"png": base64.b64encode(png).decode()}]}).encode()


@pytest.mark.parametrize(
    ("body", "reason", "memory"),
    [
        (bomb(30_000, 30_000_000), "more than 134,217,728 pixels", 2.2 * 40_000_000),
        (
            b'{"records": [' + b"[]," * MAX_VALUES + b'[]], "samples": []}',
            "more than 2,097,152 values",
            1_000_000,
        ),
    ],
    ids=["a large image", "many values"],
)
def test_small_requests_that_need_much_memory_are_refused_before_they_are_read(
    body: bytes, reason: str, memory: float
) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=reason):
            unpack(body)
        assert tracemalloc.get_traced_memory()[1] < memory
    finally:
        tracemalloc.stop()


def test_images_are_counted_before_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_PIXELS", 100)
    assert len(unpack(pack(records(4), images(4)))[1]) == 4
    header = BytesIO()
    Image.new("1", (9_000, 9_000)).save(header, "PNG")
    large = {"png": base64.b64encode(header.getvalue()[:100]).decode()}
    for body in (pack(records(5), images(5)), json.dumps({**GOOD, "samples": [large]}).encode()):
        with pytest.raises(ValueError, match=r"more than 100 pixels.* lower reward\.remote\.batch_size"):
            unpack(body)


def test_records_and_samples_arrive_as_they_left() -> None:
    texts = ["plain", "", '\u00e9\u2028\x00"\\', "<answer>7</answer>"]
    assert unpack(pack(records(4), texts)) == (records(4), texts)
    noise = Image.frombytes("RGB", (5, 7), bytes(range(105)))
    ((record,), (image,)) = unpack(pack(records(1), [noise]))
    assert isinstance(image, Image.Image)
    assert (record, image.tobytes()) == (records(1)[0], noise.tobytes())


def test_one_connection_serves_many_requests_and_its_refusals() -> None:
    with serving(Red(), "secret") as (url, _):
        connection = HTTPConnection(url.removeprefix("http://"), timeout=20)

        def request(method: str, path: str, body: bytes = b"", token: str = "secret") -> tuple[int, Any]:
            connection.request(method, path, body or None, {"Authorization": f"Bearer {token}"})
            response = connection.getresponse()
            return response.status, json.loads(response.read())

        assert request("GET", "/health", token="") == (
            200,
            {"name": "red", "range": [None, None], "needs": [], "version": __version__},
        )
        assert request("POST", "/score", BODY) == (200, {"scores": [0.0]})
        assert request("POST", "/score", BODY, "Secret")[0] == 401
        assert request("POST", "/score", b" " * 5_000_000, "")[0] == 401
        assert request("GET", "/score")[0] == 404
        assert request("POST", "/else", BODY)[0] == 404
        status, content = request("POST", "/score", pack(records(1), ["no image"]))
        assert status == 422
        assert "reward 'red' failed on sample 0, 0.png" in content["error"]
        assert request("POST", "/score", BODY) == (200, {"scores": [0.0]})
        connection.request("POST", "/score", b"", {"Content-Length": str(1 << 40)})
        assert connection.getresponse().status == 413


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
def test_hostile_paths_and_headers(open_port: int, path: str, headers: dict[str, str], status: int) -> None:
    got, content, _ = ask(open_port, "GET", path, **headers)
    assert got == status
    assert (list(content) == ["error"]) == (status != 200)
    assert "\x1b" not in json.dumps(content)
    assert ask(open_port, "GET", "/health")[0] == 200


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "Expecting"),
        (b"{", "Expecting"),
        (b"\xff\xfe", "utf-8"),
        (b"null", 'not {"records"'),
        (b"[]", 'not {"records"'),
        (b"[" * 500_000, "nested too deeply"),
        (b'{"records":' * 50_000, "nested too deeply"),
        (b'{"records": [], "samples": ' + b"9" * 5000 + b"}", "digits"),
        ({"records": {}}, 'not {"records"'),
        ({"samples": []}, "1 records but 0 samples"),
        ({"records": [None]}, "record 0: "),
        ({"records": [{"prompt": "p"}]}, "record 0: image_path: field required"),
        ({"records": [{**GOOD["records"][0], "prompt": 7}]}, "record 0: prompt: "),
        ({"records": [{**GOOD["records"][0], "prompt": "\ud800"}]}, "record 0: prompt: "),
        ({"samples": [None]}, "sample 0 is neither"),
        ({"samples": [{"png": 3}]}, "sample 0 is neither"),
        ({"samples": [{"text": ["no"]}]}, "sample 0 is neither"),
        ({"samples": [{"png": "iVBORw0KGgo="}]}, "sample 0 cannot be read as a PNG"),
        ({"samples": [{"png": "%%"}]}, "sample 0 cannot be read as a PNG"),
        ({"samples": [{"png": "é" * 100}]}, "sample 0 cannot be read as a PNG"),
        (
            {"samples": [{"png": base64.b64encode(b"%!PS-Adobe-3.0\n" * 9).decode()}]},
            "cannot be read as a PNG",
        ),
        ({"samples": [{"png": GOOD["samples"][0]["png"][:-60]}]}, "sample 0 cannot be read as a PNG"),
    ],
    ids=range(22),
)
def test_an_invalid_body_is_refused_with_a_reason(
    open_port: int, body: bytes | dict[str, Any], reason: str
) -> None:
    data = body if isinstance(body, bytes) else json.dumps({**GOOD, **body}).encode()
    status, content, _ = ask(open_port, "POST", "/score", data, Content_Length=str(len(data)))
    assert (status, list(content)) == (400, ["error"])
    assert reason in content["error"]
    assert len(content["error"]) < 2000


@pytest.mark.parametrize(
    "given", ["", "Bearer", "Bearer open-sesame-123", "Basic " + TOKEN, TOKEN, "Bearer \xff"]
)
def test_a_wrong_token(closed_port: int, given: str) -> None:
    headers = {"Authorization": given} if given else {}
    for path in ("/score", "/else"):
        status, content, _ = ask(closed_port, "POST", path, BODY, **headers)
        assert (status, content) == (401, {"error": "the bearer token is missing or wrong"})


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
def test_what_is_not_http(open_port: int, garbage: bytes) -> None:
    one = connect(open_port)
    with suppress(ConnectionError):
        one.sendall(garbage)
    content = received(one)
    assert not content or content.split(b"\r\n")[0].split()[1][:1] == b"4"
    if content:
        first, _ = json.JSONDecoder().raw_decode(content.partition(b"\r\n\r\n")[2].decode())
        assert list(first) == ["error"]
    assert ask(open_port, "POST", "/score", BODY)[1] == {"scores": [0.0]}


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
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


def test_800_requests_of_32_threads_with_hostile_ones_among_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAIRUNI_REWARD_TOKEN", TOKEN)
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    large = bomb(30_000, 500_000)
    raw = (
        b"POST /score HTTP/1.1\r\nHost: x\r\n",
        HEAD % 500_000 + b" " * 900,
        b"\x00\xff" * 500,
    )
    limits = {"connections": 64, "requests": 32, "head_seconds": 1.0, "body_seconds": 2.0}
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

        with ThreadPoolExecutor(32) as pool:
            ended = list(pool.map(lambda n: hostile(n) if n % 5 == 0 else good(n), range(800)))
        assert ended.count("good") == 640
        assert resident_mb() - before < 400
        assert client(url)(records(2), images(2)) == [0.0, 1.0]


def test_the_token_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAIRUNI_REWARD_TOKEN", TOKEN)
    shown = f"Bearer {TOKEN}, {base64.b64encode(b'Bearer ' + TOKEN.encode()).decode()}, %6fpen-sesame%2D1234"
    with inside(Odd(reply(400, {"error": shown}), reply(500, shown))) as url:
        for _ in range(2):
            with pytest.raises(RewardError) as caught:
                client(url, max_retries=0)(records(1), images(1))
            assert "***" in str(caught.value)
            assert not any(part in str(caught.value) for part in (TOKEN, "sesame", "cGVuLXNlc2FtZS"))
    monkeypatch.setenv("PAIRUNI_REWARD_TOKEN", "open-sesame\nX-Other: 1")
    with pytest.raises(ValueError, match="variable PAIRUNI_REWARD_TOKEN contains a space") as wrong:
        client("http://127.0.0.1:9")
    assert "sesame" not in str(wrong.value)
    with pytest.raises(ValueError, match=r"reward\.remote\.token_variable must be the name") as wrong:
        client("http://127.0.0.1:9", token_variable="open-sesame-1234")
    assert "sesame" not in str(wrong.value)

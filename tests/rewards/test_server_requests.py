"""The reward server with invalid and hostile requests: bodies, paths, headers, tokens, and what is not HTTP."""

from __future__ import annotations

import base64
import json
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPConnection
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from pairuni import __version__
from pairuni.rewards.checked import RewardError
from pairuni.rewards.service import wire
from pairuni.rewards.service.wire import MAX_VALUES, pack, unpack
from reward_servers import (
    TOKEN,
    Odd,
    Red,
    ask,
    bomb,
    client,
    connect,
    images,
    inside,
    received,
    records,
    reply,
    serving,
)

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

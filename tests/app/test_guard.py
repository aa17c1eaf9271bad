"""Who may use the app."""

import asyncio
import base64
from collections.abc import MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pairuni.app.guard import Guard

TOKEN = "open-sesame-1234"


def status(token: str, **headers: str) -> tuple[int, dict[str, str], str]:
    """The answer to a request with these headers."""
    sent: list[MutableMapping[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"page"})

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b""}

    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    # in a thread: Playwright, in other tests of the process, keeps a loop running in this one
    with ThreadPoolExecutor(1) as pool:
        pool.submit(
            asyncio.run, Guard(app, token)({"type": "http", "headers": encoded}, receive, send)
        ).result()
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, sent[1]["body"].decode()


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"me:{password}".encode()).decode()


@pytest.mark.parametrize("host", ["localhost:7860", "127.0.0.1", "127.3.2.1:80", "[::1]:7860"])
def test_this_machine_needs_no_token(host: str) -> None:
    assert status("", host=host)[0] == 200
    assert status("", host=host, origin=f"http://{host}")[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "10.0.0.7:7860", "", "[::1", "0.0.0.0:7860"]
)
def test_without_a_token_other_names_are_refused(host: str) -> None:
    code, _, body = status("", host=host)
    assert code == 403
    assert "localhost" in body


def test_a_token_is_asked_for_everywhere() -> None:
    code, headers, body = status(TOKEN, host="localhost")
    assert (code, headers["www-authenticate"].split()[0]) == (401, "Basic")
    assert TOKEN not in body
    assert status(TOKEN, host="10.0.0.7:7860", authorization=basic(TOKEN))[0] == 200


@pytest.mark.parametrize(
    "given",
    [
        basic(""),
        basic(TOKEN[:-1]),
        basic(TOKEN + "x"),
        f"Bearer {TOKEN}",
        "Basic",
        "Basic %%%",
        "Basic " + TOKEN,
    ],
)
def test_a_wrong_token_is_refused(given: str) -> None:
    assert status(TOKEN, host="x", authorization=given)[0] == 401


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://localhost:1", "http://localhost:7860.evil"]
)
def test_pages_of_other_sites_are_refused(origin: str) -> None:
    assert status("", host="localhost:7860", origin=origin)[0] == 403
    assert status(TOKEN, host="localhost:7860", origin=origin, authorization=basic(TOKEN))[0] == 403

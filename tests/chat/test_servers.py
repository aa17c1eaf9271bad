"""Addresses, redirections, waits, and keys in what a server says."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from chat_server import Ask, ChatServer, good_reply
from pairuni.chat.endpoint import Endpoint
from pairuni.chat.request import RequestsStopped, Stopping
from pairuni.config import CompletionSettings
from raw_server import GOOD, KEY, ask, caption, completion, request, run, server


def test_a_deployment_with_its_version_in_the_query() -> None:
    with server(reply=caption) as one:
        root = one.url.removesuffix("/v1")
        for path in ("/openai/deployments/gpt-4o", "/openai/deployments/gpt-4o/chat/completions"):
            ask(one, base_url=f"{root}{path}?api-version=2025-01-01-preview")
        ask(one, base_url=f"{root}/v1/")
    assert [ask.path for ask in one.asks] == [
        *["/openai/deployments/gpt-4o/chat/completions?api-version=2025-01-01-preview"] * 2,
        "/v1/chat/completions",
    ]
    assert [ask.headers.get("api-key") for ask in one.asks] == [KEY, KEY, None]
    assert {ask.headers["authorization"] for ask in one.asks} == {f"Bearer {KEY}"}


@pytest.mark.parametrize(
    "query",
    [
        "api-key=x",
        "key=x",
        "sig=x",
        "token=x",
        "access_token=x",
        "code=x",
        "subscription-key=x",
        f"v={KEY}",
        "a=0123456789abcdef0123",
    ],
)
def test_a_query_that_may_be_a_key_is_refused_unseen(query: str) -> None:
    value = query.partition("=")[2]
    with pytest.raises(
        ValueError, match="must not contain a user, password or query that may be a key"
    ) as caught:
        Endpoint(CompletionSettings(model="m", base_url=f"https://host/v1?api-version=1&{query}"))
    assert f"={value}" not in str(caught.value)


@pytest.mark.parametrize("lost", ["html", "404"])
def test_an_address_without_v1_is_found(lost: str, caplog: pytest.LogCaptureFixture) -> None:
    def says(one: Ask, said: str) -> Any:
        if one.path.startswith("/v1/"):
            return completion(said)
        page = b"<!DOCTYPE html><title>Welcome</title>"
        return (
            (200, page, {"Content-Type": "text/html"})
            if lost == "html"
            else (404, b'{"detail": "Not Found"}', {})
        )

    with server(says, reply=caption) as one:
        root = one.url.removesuffix("/v1")
        endpoint = Endpoint(CompletionSettings(model="seer", base_url=root + "/"), section="reward.judge")
        for _ in range(2):
            assert endpoint(request(), Stopping())["text"] == GOOD
    assert len(one.asks) == 3
    assert f"{root} answers at {root}/v1; set reward.judge.base_url to it" in caplog.text


def test_a_login_page_is_named(tmp_path: Path) -> None:
    page = b"<html><head><title>Sign in to the proxy</title></head></html>"
    with (
        server(lambda *_: (200, page, {"Content-Type": "application/json"})) as one,
        pytest.raises(
            RequestsStopped,
            match=r"title is 'Sign in to the proxy', responds with an HTML page instead of a chat",
        ),
    ):
        run(one, tmp_path)
    assert len(one.asks) <= 4


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirections_are_followed_to_a_chat_endpoint_of_the_same_host_alone(status: int) -> None:
    def says(one: Ask, said: str) -> Any:
        if one.path.startswith("/new"):
            return completion(said)
        return status, b"", {"Location": "/new/chat/completions"}

    with server(says, reply=caption) as one:
        endpoint = Endpoint(CompletionSettings(model="seer", base_url=one.url), backoff=0.01)
        for _ in range(2):
            assert endpoint(request(), Stopping())["text"] == GOOD
        assert [ask.path for ask in one.asks] == ["/v1/chat/completions", *["/new/chat/completions"] * 2]
    with server() as other:
        for place in (f"{other.url}/chat/completions", "/login?next=x", f"https://me:{KEY}@host/v1"):
            with (
                server(lambda *_, place=place: (status, b"", {"Location": place})) as one,
                pytest.raises(
                    RequestsStopped, match=rf"redirects \({status}\) to .*, which is not followed"
                ) as caught,
            ):
                ask(one)
            assert KEY not in str(caught.value)
        assert other.asks == []
    with (
        server(lambda one, _: (status, b"", {"Location": f"/{one.serial}/chat/completions"})) as one,
        pytest.raises(RequestsStopped, match="redirects in a loop"),
    ):
        ask(one)


def test_a_wait_is_told_once_with_its_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr("pairuni.chat.endpoint.LOGGED_WAIT", 0.1)
    with ChatServer(lambda one: "429 0.2" if one.serial < 2 else None, reply=caption) as one:
        endpoint = Endpoint(CompletionSettings(model="seer", base_url=one.url), backoff=0.01)
        endpoint(request(), Stopping())
    told = [record.message for record in caplog.records]
    assert len(told) == 2
    assert "limits its rate (refusal 1): no requests until " in told[0]
    assert "then at most 1 at once: the endpoint says 429" in told[0]
    caplog.clear()
    with ChatServer(lambda one: "500" if one.serial < 1 else None, reply=caption) as one:
        endpoint = Endpoint(CompletionSettings(model="seer", base_url=one.url), backoff=0.4)
        monkeypatch.setattr("pairuni.chat.endpoint.LOGGED_WAIT", 0.0)
        endpoint(request(), Stopping())
    (told_again,) = [record.message for record in caplog.records]
    assert "retrying at " in told_again
    assert "(attempt 2 of 7): the endpoint says 500: oh no" in told_again


def test_a_key_in_any_form_is_hidden_from_sentences_and_files(tmp_path: Path) -> None:
    import base64
    from urllib.parse import quote

    hidden = base64.b64encode(f"Bearer {KEY}".encode()).decode()
    spread = f"{KEY[:9]}\n{KEY[9:]}"
    filler = "x" * 280  # so that a shortened sentence would end inside of the key
    for number, said in enumerate((quote(KEY), hidden, spread, filler + KEY)):
        error = json.dumps({"error": {"message": f"bad: {said}"}}).encode()
        with server(lambda *_, error=error: (413, error, {})) as one:
            (first, *_) = run(one, tmp_path / str(number), count=2).dropped
        for form in (KEY, quote(KEY), hidden[8:-4], KEY[:12], KEY[10:]):
            assert form not in first.reason
    with server(lambda _, said: completion(said.replace("plain", KEY)), reply=good_reply) as one:
        run(one, tmp_path / "kept")
    assert KEY.encode() not in b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())

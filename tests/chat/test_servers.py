"""Servers as they are met: what is no answer, other ways of asking, streams, redirections, endless bytes."""

from __future__ import annotations

import gzip
import json
import logging
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chat_server import Ask, ChatServer, good_reply
from completion_samples import made_samples
from pairuni.chat.endpoint import Endpoint
from pairuni.chat.request import FailureStreak, PlainRequest, RequestFailed, RequestsStopped, Stopping
from pairuni.config import CompletionSettings
from pairuni.pairug.completion.answer_store import AnswerStore
from pairuni.pairug.completion.completion import CompletionReport, complete
from pairuni.pairug.completion.costs import usage_of
from pairuni.pairug.completion.model_annotator import ModelAnnotator

KEY = "sk-proj-0123456789-very-secret"
PRICED = {"price_input": 1.0, "price_output": 1.0}

Says = Callable[[Ask, str], Any]
"""Of a request and the good reply to it: a body, or (status, bytes, headers)."""


class RawServer(ChatServer):
    """Answers as ``says`` tells; well where it is None."""

    says: Says | None = None

    def _answer(self, handler: Any, ask: Ask) -> None:
        said = self.rename(self.reply(ask))
        out = completion(said) if self.says is None else self.says(ask, said)
        status, data, headers = out if isinstance(out, tuple) else (200, json.dumps(out).encode(), {})
        handler.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(data)),
            **headers,
        }.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)


def server(says: Says | None = None, **more: Any) -> RawServer:
    one = RawServer(**more)
    one.says = says
    return one


def completion(
    content: Any, finish: str | None = "stop", *, tokens: int = 10, **message: Any
) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **message}}
    return {
        "id": "x",
        "choices": [{**choice, "finish_reason": finish}],
        "usage": {"prompt_tokens": 100, "completion_tokens": tokens},
    }


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def store_in(folder: Path) -> AnswerStore:
    return AnswerStore(folder / "cache" / "answers.jsonl")


def run(one: RawServer, folder: Path, count: int = 4, **settings: Any) -> CompletionReport:
    given = {"model": "seer", "base_url": one.url, "timeout": 5.0, "max_retries": 2, **settings}
    chosen = CompletionSettings(**given)
    store = store_in(folder)
    try:
        annotator = ModelAnnotator("endpoint", chosen, Endpoint(chosen, backoff=0.01))
        return complete(made_samples(folder, count), annotator, 3, store=store)
    finally:
        store.close()


def ask(one: RawServer, **settings: Any) -> dict[str, Any]:
    given = {"model": "seer", "base_url": one.url, "timeout": 5.0, "max_retries": 1, **settings}
    endpoint = Endpoint(CompletionSettings(**given), backoff=0.01)
    return endpoint(request(given.get("temperature")), Stopping())


def request(temperature: float | None = None) -> PlainRequest:
    return PlainRequest(
        model="seer",
        system="s",
        content=("Write a caption.\nAnswer: red",),
        max_tokens=500,
        temperature=temperature,
    )


def caption(ask: Ask) -> dict[str, Any]:
    return {"caption": "red"}


GOOD = json.dumps({"caption": "red"})

NO_ANSWERS: dict[str, tuple[Says, str]] = {
    "reasoning_content": (
        lambda _, said: completion(None, reasoning_content=said),
        r"sent an empty reply, with its text in reasoning_content \('.*'\); start the server without a",
    ),
    "reasoning": (lambda _, said: completion("", reasoning=said), "with its text in reasoning "),
    "parts of reasoning": (
        lambda _, said: completion([{"type": "thinking", "thinking": [{"type": "text", "text": said}]}]),
        "with its text in parts of reasoning",
    ),
    "a tool's call": (
        lambda _, said: completion(None, tool_calls=[{"function": {"arguments": said}}]),
        "with its text in a call of a tool",
    ),
    "the limit": (
        lambda _, said: completion(None, "length", reasoning_content=said),
        "sent no reply, because reasoning used up the limit of tokens; raise max_tokens",
    ),
    "the limit, hidden": (lambda *_: completion("", "length"), "reasoning used up the limit of tokens"),
    "the limit, in the text": (
        lambda _, said: completion(f"<think>{said}", "length"),
        "reasoning used up the limit of tokens",
    ),
    "thoughts alone": (
        lambda _, said: completion(f"<think>{said}</think>\n"),
        "sent reasoning without a reply",
    ),
    "nothing": (lambda *_: completion(None), "sent an empty reply"),
    "blanks": (lambda *_: completion(" \n "), "sent an empty reply"),
    "finish error": (lambda _, said: completion(said, "error"), "sent a reply that ended with 'error'"),
    "finish abort": (lambda _, said: completion(said[:9], "abort"), "sent a reply that ended with 'abort'"),
    "no choices": (lambda *_: {"choices": [], "usage": {}}, "sent a completion without choices"),
    "null choices": (lambda *_: {"choices": None}, "sent a completion without choices"),
    "an error": (
        lambda *_: {"error": {"message": "the engine died", "code": 503}},
        "the endpoint says 200 with the error 503: the engine died",
    ),
    "an error without a code": (
        lambda *_: {"error": "boom"},
        "the endpoint says 200 with the error 502: boom",
    ),
    "an error beside choices": (
        lambda _, said: {**completion(said), "error": {"message": "cut", "type": "server_error"}},
        "says 200 with the error server_error: cut",
    ),
    "an error of a choice": (
        lambda *_: {"choices": [{"error": {"code": 502, "message": "upstream"}, "message": {"content": ""}}]},
        "says 200 with the error 502: upstream",
    ),
    "an error of a router": (
        lambda *_: {"error": {"message": "Provider error", "code": 502, "metadata": {"raw": "overheated"}}},
        "502: Provider error: overheated",
    ),
    "an error that is refused": (
        lambda *_: {"error": {"message": "bad image", "type": "invalid_request_error"}},
        "says 200 with the error invalid_request_error: bad image",
    ),
}


@pytest.mark.parametrize("form", NO_ANSWERS)
def test_what_is_no_answer_is_named_never_stored_and_asked_again(form: str, tmp_path: Path) -> None:
    says, reason = NO_ANSWERS[form]
    with server(says) as one:
        first = run(one, tmp_path)
        assert (len(first.quadruples), first.failed, first.tries) == (0, 4, 0)
        for dropped in first.dropped:
            with pytest.raises(RequestFailed, match=reason):
                raise RequestFailed(dropped.reason)
        assert "answer" not in (tmp_path / "cache" / "answers.jsonl").read_text()
        one.says = None
        again = run(one, tmp_path)
    assert (len(again.quadruples), again.failed) == (4, 0)


@pytest.mark.parametrize("form", ["reasoning_content", "the limit", "nothing", "no choices"])
def test_a_run_of_them_stops_the_build_and_the_same_command_asks_again(form: str, tmp_path: Path) -> None:
    says, reason = NO_ANSWERS[form]
    with server(says) as one:
        with pytest.raises(
            RequestsStopped, match=f"10 requests in a row got no answer, the last because .*{reason}"
        ):
            run(one, tmp_path, count=40, concurrency=2)
        assert len(one.asks) <= 3 * (FailureStreak.most + 2)
        one.says = None
        assert len(run(one, tmp_path, count=40).quadruples) == 40


def test_one_now_and_then_costs_a_request_and_no_sample(tmp_path: Path) -> None:
    with server(lambda one, said: completion(said if one.delivery > 1 else None)) as one:
        report = run(one, tmp_path, count=24, **PRICED)
    assert (len(report.quadruples), report.failed, report.retried) == (24, 0, 0)
    assert len(one.asks) == 2 * 48
    usage = usage_of(CompletionSettings(**PRICED), store_in(tmp_path))
    assert (usage.answers, usage.prompt_tokens, usage.completion_tokens) == (48, 9600, 960)


def test_tokens_without_an_answer_count_for_the_budget(tmp_path: Path) -> None:
    with server(lambda *_: completion(None)) as one:
        assert run(one, tmp_path, count=2).failed == 2
    store = store_in(tmp_path)
    assert (len(store), store.prompt_tokens, store.completion_tokens) == (0, 600, 60)


def test_empty_replies_that_an_earlier_build_stored_are_asked_again(tmp_path: Path) -> None:
    with server() as one:
        before = run(one, tmp_path)
        path = tmp_path / "cache" / "answers.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        forms: list[dict[str, Any]] = [
            {"text": ""},
            {"text": "", "finish": "length"},
            {"text": "<think>hm", "finish": "length"},
            {"text": "x", "finish": "error"},
        ]
        for row, form in zip(rows, forms, strict=False):
            row["answer"] |= form
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        asked = len(one.asks)
        assert run(one, tmp_path).quadruples == before.quadruples
        assert len(one.asks) - asked == 4
        assert run(one, tmp_path).quadruples == before.quadruples
        assert len(one.asks) - asked == 4
    assert store_in(tmp_path).prompt_tokens == 12 * 100


def test_a_refusal_is_an_answer(tmp_path: Path) -> None:
    for number, says in enumerate(
        [
            lambda *_: completion(None, refusal="No."),
            lambda *_: completion([{"type": "refusal", "refusal": "No."}]),
            lambda *_: completion(None, "content_filter"),
        ]
    ):
        with server(says) as one:
            report = run(one, tmp_path / str(number), count=2)
        assert (report.failed, report.tries) == (0, 6)
        assert "the model refused" in report.dropped[0].reason


def event(piece: Any) -> str:
    return f"data: {json.dumps(piece)}\n\n"


def pieces(said: str, finish: str | None = "stop") -> list[dict[str, Any]]:
    deltas = [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "hm"},
        {"content": said[:5]},
        {"content": said[5:]},
    ]
    told = [{"id": "x", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    ends = [
        {"choices": [{"delta": {}, "finish_reason": finish}]},
        {"choices": [], "usage": {"prompt_tokens": 7}},
    ]
    return [*told, *ends]


STREAMS: dict[str, Callable[[str], str]] = {
    "a body, then the end of a stream": lambda said: json.dumps(completion(said)) + "\n\ndata: [DONE]\n\n",
    "a body as an event": lambda said: event(completion(said)) + "data: [DONE]\n\n",
    "pieces": lambda said: "".join(map(event, pieces(said))) + "data: [DONE]\n\n",
    "pieces with carriage returns": lambda said: ("".join(map(event, pieces(said)))).replace("\n", "\r\n"),
    "pieces with comments": lambda said: (
        ": WAITING\n\n" + ": WAITING\n\nevent: x\nid: 3\n".join(map(event, pieces(said)))
    ),
    "pieces without blank lines": lambda said: "".join(map(event, pieces(said))).replace("\n\n", "\n"),
    "pieces without data:": lambda said: "".join(json.dumps(one) + "\n" for one in pieces(said)),
    "pieces without an end mark": lambda said: "".join(map(event, pieces(said))),
    "blanks in front": lambda said: " \n" * 500 + json.dumps(completion(said)),
}


@pytest.mark.parametrize("form", STREAMS)
@pytest.mark.parametrize("kind", ["text/event-stream", "application/json"])
def test_streams_that_nobody_asked_for(form: str, kind: str) -> None:
    with server(
        lambda _, said: (200, STREAMS[form](said).encode(), {"Content-Type": kind}), reply=caption
    ) as one:
        answer = ask(one)
    assert (answer["text"], answer["finish"]) == (GOOD, "stop")
    assert len(one.asks) == 1


def test_a_stream_that_breaks_off_is_no_answer() -> None:
    def cut(one: Ask, said: str) -> Any:
        whole = pieces(said)
        return 200, "".join(map(event, whole[: 3 if one.serial == 0 else 9])).encode(), {}

    with server(cut, reply=caption) as one:
        assert ask(one)["text"] == GOOD
    assert len(one.asks) == 2
    with (
        server(lambda *_: (200, event({"error": {"message": "died", "code": 500}}).encode(), {})) as one,
        pytest.raises(RequestFailed, match="200 with the error 500: died"),
    ):
        ask(one)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "text": '{"caption": '}, {"type": "output_text", "text": '"red"}'}], GOOD),
        ([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": GOOD}], GOOD),
        (["{", '"caption": "red"}'], GOOD),
        ({"type": "text", "text": GOOD}, GOOD),
        ({"caption": "red"}, GOOD),
    ],
)
def test_content_in_parts(content: Any, text: str) -> None:
    with server(lambda *_: completion(content)) as one:
        assert ask(one)["text"] == text


@pytest.mark.parametrize("kind", ["application/json; charset=ISO-8859-1", "text/html", "text/plain", ""])
def test_bytes_in_whatever_wrapping(kind: str) -> None:
    body = json.dumps(completion("größe – 红"), ensure_ascii=False)
    forms: list[tuple[bytes, dict[str, str]]] = [
        (body.encode(), {}),
        (b"\xef\xbb\xbf" + body.encode(), {}),
        (body.encode("utf-16"), {}),
        (gzip.compress(body.encode()), {"Content-Encoding": "gzip"}),
        (gzip.compress(body.encode()), {}),
        (body.encode(), {"Content-Encoding": "gzip"}),
    ]
    for data, headers in forms:
        with server(
            lambda *_, given=(data, headers): (200, given[0], {"Content-Type": kind, **given[1]})
        ) as one:
            assert ask(one)["text"] == "größe – 红"
    latin = json.dumps(completion("größe"), ensure_ascii=False).encode("latin-1")
    with server(lambda *_: (200, latin, {"Content-Type": kind})) as one:
        assert ask(one)["text"] == "größe"


def test_compression_that_is_broken_or_a_bomb_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pairuni.chat.endpoint.MOST_BYTES", 1 << 20)
    bomb = gzip.compress(b" " * (1 << 24))
    for data, reason in (
        (gzip.compress(b"{}")[:-9], "incomplete or too long"),
        (bomb, "incomplete or too long"),
        (b" " * (1 << 21), "longer than 1,048,576 bytes"),
    ):
        with (
            server(
                lambda *_, data=data: (200, data, {"Content-Encoding": "gzip"} if data[:1] != b" " else {})
            ) as one,
            pytest.raises(RequestFailed, match=reason),
        ):
            ask(one)


class Dripping(RawServer):
    """Sends a blank now and then, for ever; of its headers too where ``early``."""

    early = False
    status = 200
    encoding = ""

    def _answer(self, handler: Any, ask: Ask) -> None:
        if self.early:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Wait: ")
            blank = b"x"
        else:
            handler.send_response(self.status)
            if self.encoding:
                handler.send_header("Content-Encoding", self.encoding)
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            blank = b"1\r\n \r\n"
        while not self._released.is_set():
            handler.wfile.write(blank)
            handler.wfile.flush()
            time.sleep(0.1)


@pytest.mark.parametrize(
    "form",
    [{}, {"early": True}, {"status": 500}, {"encoding": "gzip"}],
    ids=["body", "headers", "error", "gzip"],
)
def test_bytes_that_never_end_end_a_request(form: dict[str, Any]) -> None:
    one = Dripping()
    for name, value in form.items():
        setattr(one, name, value)
    with (
        one,
        pytest.raises(
            RequestFailed, match=r"no complete answer within 0\.5 seconds, though bytes keep coming"
        ),
    ):
        ask(one, timeout=0.4, deadline=0.5, max_retries=0)
    with Dripping() as one, pytest.raises(RequestFailed, match="no complete answer within 1 seconds"):
        ask(one, timeout=0.2, max_retries=0)


def refusing(name: str, message: str, parameter: str | None = None, status: int = 400) -> Says:
    """Refuses requests with this parameter in the words of some server."""

    def says(one: Ask, said: str) -> Any:
        if name not in one.body and not (name == "system" and one.body["messages"][0]["role"] == "system"):
            return completion(said)
        error = {"error": {"message": message, "param": parameter, "code": "unsupported_value"}}
        return status, json.dumps(error).encode(), {}

    return says


@pytest.mark.parametrize(
    "says",
    [
        refusing(
            "temperature",
            "Unsupported value: 'temperature' does not support 0 with this model.",
            "temperature",
        ),
        refusing("temperature", "temperature is deprecated for this model"),
        refusing("temperature", "Unsupported parameter", "body.temperature"),
        refusing("temperature", "Extra inputs are not permitted: temperature", status=422),
        lambda one, said: (
            {"error": {"message": "no temperature, please", "param": "temperature"}}
            if "temperature" in one.body
            else completion(said)
        ),
    ],
)
def test_a_temperature_that_is_refused_is_left_out_and_told(
    says: Says, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with server(says) as one:
        report = run(one, tmp_path, count=6, temperature=0.0, concurrency=1)
        assert len(report.quadruples) == 6
        assert sum("temperature" in ask.body for ask in one.asks) == 1, "what is refused is learned once"
        assert all("response_format" in ask.body for ask in one.asks), "what is not named stays"
        assert len(one.asks) == 13
        told = [record.message for record in caplog.records if "without temperature" in record.message]
        assert len(told) == 1
        # the key of what was asked is that of the settings, so that nothing is asked twice
        assert run(one, tmp_path, count=6, temperature=0.0).quadruples == report.quadruples
        assert len(one.asks) == 13
    usage = usage_of(CompletionSettings(), store_in(tmp_path)).to_json()
    assert usage["asked_without_temperature"] == 12
    assert "over_limit" not in usage


def test_whatever_is_refused_by_name_is_asked_another_way(tmp_path: Path) -> None:
    def says(one: Ask, said: str) -> Any:
        for name in ("max_completion_tokens", "response_format", "temperature"):
            if name in one.body:
                return 400, json.dumps({"detail": [{"loc": ["body", name], "msg": "extra"}]}).encode(), {}
        if one.body["messages"][0]["role"] == "system":
            return 400, b'{"message": "System role not supported"}', {}
        return completion(said)

    with server(says) as one:
        report = run(one, tmp_path, temperature=0.5, concurrency=1)
    assert len(report.quadruples) == 4
    assert len(one.asks) == 8 + 5
    body = one.asks[-1].body
    assert {"max_tokens"} == body.keys() - {"model", "messages"}
    assert [part["type"] for part in body["messages"][0]["content"]] == ["text", "image_url", "text"]


def test_a_limit_refused_by_its_old_name_gets_its_new_one() -> None:
    message = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
    with server(
        lambda one, said: (
            completion(said, tokens=900) if one.serial < 1 else refusing("max_tokens", message)(one, said)
        ),
        reply=caption,
    ) as one:
        endpoint = Endpoint(CompletionSettings(model="seer", base_url=one.url), backoff=0.01)
        for _ in range(3):
            endpoint(request(), Stopping())
    names = [next(iter(ask.body.keys() - {"model", "messages"})) for ask in one.asks]
    assert names == ["max_completion_tokens", "max_tokens", "max_completion_tokens", "max_completion_tokens"]


def test_a_prompt_that_is_too_long_is_not_asked_in_other_ways() -> None:
    said = "'max_tokens' or 'max_completion_tokens' is too large: 50. This model's maximum context length is 40 tokens"
    with (
        server(lambda *_: (400, json.dumps({"error": {"message": said}}).encode(), {})) as one,
        pytest.raises(RequestFailed, match="is too large"),
    ):
        ask(one)
    assert len(one.asks) == 1


def test_a_limit_that_is_ignored_goes_by_its_other_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def says(one: Ask, said: str) -> Any:
        return completion(said, tokens=3000 if "max_completion_tokens" in one.body else 40)

    with server(says) as one:
        report = run(one, tmp_path, count=6, concurrency=1)
    assert len(report.quadruples) == 6
    assert ["max_tokens" in ask.body for ask in one.asks] == [False] + [True] * 11
    (told,) = [record.message for record in caplog.records]
    assert (
        "used 3000 tokens for a reply of at most 2048: it ignores max_completion_tokens; requests are" in told
    )
    assert usage_of(CompletionSettings(), store_in(tmp_path)).to_json()["over_limit"] == 1
    caplog.clear()
    with server(lambda _, said: completion(said, tokens=3000)) as one:
        assert len(run(one, tmp_path / "b", concurrency=1).quadruples) == 4
    ignored = [re.findall(r"ignores (\w+)", record.message)[0] for record in caplog.records]
    assert ignored == ["max_completion_tokens", "max_tokens"]


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
    with pytest.raises(ValueError, match="must hold no user, password or query that may be a key") as caught:
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
            match=r"title is 'Sign in to the proxy', answers with a page of HTML, not as a chat",
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
    monkeypatch.setattr("pairuni.chat.endpoint.TOLD_WAIT", 0.1)
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
        monkeypatch.setattr("pairuni.chat.endpoint.TOLD_WAIT", 0.0)
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

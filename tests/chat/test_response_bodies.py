"""Response bodies: streams, content in parts, encodings, compression, bytes without end."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from chat_server import Ask
from pairuni.chat.request import RequestFailed
from raw_server import GOOD, RawServer, ask, caption, completion, server


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

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
from pairuni.chat.responses import decode_body, parse_completion, parse_response
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
def test_streams_that_nobody_asked_for(form: str) -> None:
    answer = parse_response(STREAMS[form](GOOD))
    assert (answer["text"], answer["finish"]) == (GOOD, "stop")


@pytest.mark.parametrize("kind", ["text/event-stream", "application/json"])
def test_a_stream_is_one_answer_whatever_its_header(kind: str) -> None:
    headers = {"Content-Type": kind}
    with server(lambda _, said: (200, STREAMS["pieces"](said).encode(), headers), reply=caption) as one:
        assert ask(one)["text"] == GOOD
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
    assert parse_completion(completion(content))["text"] == text


@pytest.mark.parametrize("kind", ["application/json; charset=ISO-8859-1", "text/html", "text/plain", ""])
def test_bytes_in_any_encoding(kind: str) -> None:
    text = "größe – 红"
    for data in (text.encode(), b"\xef\xbb\xbf" + text.encode(), text.encode("utf-16")):
        assert decode_body(data, kind) == text
    assert decode_body("größe".encode("latin-1"), kind) == "größe"


def test_compressed_bodies_whatever_their_header() -> None:
    body = json.dumps(completion("größe")).encode()
    packed, says_so = gzip.compress(body), {"Content-Encoding": "gzip"}
    forms = iter([(200, packed, says_so), (200, packed, {}), (200, body, says_so)])
    with server(lambda *_: next(forms)) as one:
        assert [ask(one)["text"] for _ in range(3)] == ["größe"] * 3


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
    told = r"no complete answer within 0\.3 seconds, although bytes keep coming"
    with one, pytest.raises(RequestFailed, match=told):
        ask(one, timeout=0.4, deadline=0.3, max_retries=0)


def test_the_deadline_follows_from_the_timeout() -> None:
    with Dripping() as one, pytest.raises(RequestFailed, match="no complete answer within 1 seconds"):
        ask(one, timeout=0.2, max_retries=0)

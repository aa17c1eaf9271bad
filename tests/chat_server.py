"""A local chat-completions server that checks requests and simulates faults."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WRONG = ("quartz", "marble", "velvet", "copper", "walnut", "ivory", "cobalt")


@dataclass
class Ask:
    """One request as it came in.

    serial: its place among all; digest: of its messages; delivery: how often these messages came, from 1.
    """

    serial: int
    digest: str
    delivery: int
    body: dict[str, Any]
    headers: dict[str, str]
    path: str
    answered: bool = False

    @property
    def text(self) -> str:
        return str(self.body["messages"][-1]["content"][-1]["text"])

    @property
    def task(self) -> str:
        for opening, name in (
            ("Write a caption", "caption"),
            ("Write a multiple", "question"),
            ("Check a caption", "check caption"),
            ("Check a multiple", "check question"),
        ):
            if re.search(f"^{opening}", self.text, re.M):
                return name
        raise AssertionError(self.text)

    @property
    def tries(self) -> int:
        """How many earlier replies the text says were refused."""
        return len(re.findall(r"^\d+\. ", self.text.partition("Earlier replies were refused:")[2], re.M))

    def share(self, salt: str) -> float:
        """A number in [0, 1) that depends on the messages and the salt alone."""
        return int.from_bytes(hashlib.sha256(f"{salt}{self.digest}".encode()).digest()[:4], "big") / 2**32


Misbehave = Callable[[Ask], str | None]
"""What is done to a request instead of answering well: a word that ``ChatServer`` knows, or None."""


def good_reply(ask: Ask, *, contradicting: bool = False) -> dict[str, Any]:
    """What a model that reads the text would say."""
    text = ask.text
    if ask.task == "caption":
        answer = re.search(r"^Answer: (.*)$", text, re.M)[1]
        said = f"A plain image that shows {answer}." if not contradicting else "An image of WRONG things."
        return {
            "facts": [answer],
            "caption": said,
            "answer_from_caption": answer,
            "states_every_fact": True,
            "names_only_what_is_shown": True,
        }
    if ask.task == "question":
        caption = re.search(r"described by this caption:\n\n(.*)\n", text)[1]
        wanted = int(re.search(r"The (\d+) wrong options", text)[1])
        right = caption.strip(" .").split()[-1].lower()
        others = [word for word in WRONG if word != right][:wanted]
        return {
            "element": right,
            "question": "WRONG what ends the caption?" if contradicting else "Which word ends the caption?",
            "right": right,
            "wrong": others,
            "stated_by_caption": True,
            "visible_in_picture": True,
            "only_one_right": True,
        }
    wrong = "WRONG" in text
    if ask.task == "check caption":
        answer = re.search(r"^Right answer: (.*)$", text, re.M)[1]
        return {
            "answer_from_caption": "unknown" if wrong else answer,
            "answer_agrees": not wrong,
            "contradicts_picture": wrong,
            "invents": False,
            "reason": "the image shows no WRONG things" if wrong else "",
        }
    caption = re.search(r"described by this caption:\n\n(.*)\n", text)[1].strip(" .").split()[-1].lower()
    options = dict(re.findall(r"^([A-H])\. (.*)$", text, re.M))
    letter = next((letter for letter, option in options.items() if option == caption), "none")
    return {
        "letter_from_caption": letter,
        "letter_from_picture": "none" if wrong else letter,
        "asks_what_caption_states": True,
        "contradicts": wrong,
        "reason": "nothing is WRONG here" if wrong else "",
    }


@dataclass
class ChatServer:
    """``with ChatServer() as server: ... server.url``.

    seconds: what every answer takes. together: requests that must have been open at once before one is answered.
    """

    misbehave: Misbehave = lambda ask: None
    seconds: float = 0.0
    together: int = 1
    reply: Callable[[Ask], dict[str, Any]] = good_reply
    rename: Callable[[dict[str, Any]], str] = json.dumps
    asks: list[Ask] = field(default_factory=list)
    most_at_once: int = 0
    key_seen: set[str] = field(default_factory=set)

    def __enter__(self) -> ChatServer:
        self._lock = threading.Lock()
        self._now = 0
        self._all_here = threading.Event()
        self._released = threading.Event()
        self._deliveries: dict[str, int] = {}
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                owner._handle(self)

            def log_message(self, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Clients that are killed or time out break their connections."""

        self._server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        return self

    def __exit__(self, *args: object) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        data = handler.rfile.read(int(handler.headers["Content-Length"]))
        body = json.loads(data)
        digest = hashlib.sha256(json.dumps(body["messages"]).encode()).hexdigest()
        with self._lock:
            self._deliveries[digest] = self._deliveries.get(digest, 0) + 1
            headers = {name.lower(): value for name, value in handler.headers.items()}
            ask = Ask(len(self.asks), digest, self._deliveries[digest], body, headers, handler.path)
            self.asks.append(ask)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            if self._now >= self.together:
                self._all_here.set()
        try:
            self._all_here.wait(timeout=60)
            if self.seconds:
                time.sleep(self.seconds)
            self._answer(handler, ask)
        finally:
            with self._lock:
                self._now -= 1

    def _answer(self, handler: BaseHTTPRequestHandler, ask: Ask) -> None:
        fault = self.misbehave(ask)
        error = {"error": {"message": "you asked for it", "code": fault, "type": "fault"}}
        if fault is not None and fault.startswith("429"):
            rest = fault.removeprefix("429").strip() or "0.05"
            self._send(handler, 429, json.dumps(error), {"Retry-After": rest})
        elif fault == "500":
            self._send(handler, 500, "oh no", {"retry-after-ms": "10"})
        elif fault == "hang":
            self._released.wait(30)
            handler.close_connection = True
        elif fault == "drop":
            handler.close_connection = True
        elif fault == "html":
            self._send(handler, 200, "<!doctype html><title>Welcome</title>", kind="text/html")
        elif fault == "cut envelope":
            whole = json.dumps(self._completion(ask, "{}"))
            self._send(handler, 200, whole[: len(whole) // 2])
        elif fault == "cut":
            said = json.dumps(self.reply(ask))
            self._send(handler, 200, json.dumps(self._completion(ask, said[: len(said) // 2], "length")))
        elif fault == "refuse":
            body = self._completion(ask, None)
            body["choices"][0]["message"]["refusal"] = "I cannot help with that image."
            self._send(handler, 200, json.dumps(body))
        elif fault == "contradict":
            said = json.dumps(good_reply(ask, contradicting=True))
            self._send(handler, 200, json.dumps(self._completion(ask, said)))
        elif fault is not None and fault.startswith("status "):
            status, _, said = fault.removeprefix("status ").partition(" ")
            error["error"]["message"] = said
            self._send(handler, int(status), json.dumps(error))
        else:
            assert fault is None, fault
            self._send(handler, 200, json.dumps(self._completion(ask, self.rename(self.reply(ask)))))
            ask.answered = True

    @staticmethod
    def _completion(ask: Ask, content: str | None, finish: str = "stop") -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{ask.serial}",
            "object": "chat.completion",
            "model": ask.body["model"],
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": content},
                    "finish_reason": finish,
                }
            ],
            "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100},
        }

    @staticmethod
    def _send(
        handler: BaseHTTPRequestHandler,
        status: int,
        body: str,
        headers: dict[str, str] | None = None,
        kind: str = "application/json",
    ) -> None:
        data = body.encode()
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)

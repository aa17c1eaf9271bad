"""A chat server that sends any body, status and headers, and requests to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chat_server import Ask, ChatServer
from completion_samples import complete_at, made_samples
from pairuni.chat.endpoint import Endpoint
from pairuni.chat.request import PlainRequest, Stopping
from pairuni.config import CompletionSettings
from pairuni.pairug.completion.answer_store import AnswerStore
from pairuni.pairug.completion.completion import CompletionReport

KEY = "sk-proj-0123456789-very-secret"

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


def store_in(folder: Path) -> AnswerStore:
    return AnswerStore(folder / "cache" / "answers.jsonl")


def run(one: RawServer, folder: Path, count: int = 4, **settings: Any) -> CompletionReport:
    return complete_at(one, folder, made_samples(folder, count), **{"max_retries": 2, **settings})


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

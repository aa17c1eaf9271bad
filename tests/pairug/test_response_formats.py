"""JSON schemas, JSON objects and plain prompts: the format that each model supports is learned once."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from chat_server import Ask, ChatServer
from completion_samples import made_samples
from pairuni.chat.endpoint import Endpoint
from pairuni.chat.request import PlainRequest, RequestFailed, Stopping
from pairuni.config import CompletionSettings


def old_server(ask: Ask) -> str | None:
    """Knows neither schemas nor JSON objects nor the new name of the limit."""
    if "max_completion_tokens" in ask.body:
        return "status 400 unknown field max_completion_tokens"
    return "status 422 response_format is not supported" if "response_format" in ask.body else None


def in_prose(said: dict[str, Any]) -> str:
    return f"<think>{{hm}}</think>Certainly!\n```json\n{json.dumps(said, indent=1)}\n```\nAnything else?"


def in_lines(said: dict[str, Any]) -> str:
    return "\n".join(
        f"**{name.replace('_', ' ').capitalize()}:** {'; '.join(value) if isinstance(value, list) else value}"
        for name, value in said.items()
    )


@pytest.mark.parametrize("rename", [in_prose, in_lines])
def test_servers_without_structured_outputs(run, tmp_path, rename):
    with ChatServer(old_server, rename=rename) as server:
        report = run(server, samples=made_samples(tmp_path, 12), concurrency=1)
    assert len(report.quadruples) == 12
    refused = [ask for ask in server.asks if old_server(ask)]
    assert len(refused) == 3, "what a server takes is learned once"
    assert len(server.asks) == 24 + 3


def test_json_objects_where_schemas_are_refused(run, tmp_path):
    def misbehave(ask: Ask) -> str | None:
        form = ask.body.get("response_format", {}).get("type")
        return "status 400 json_schema is not supported" if form == "json_schema" else None

    with ChatServer(misbehave) as server:
        report = run(server, samples=made_samples(tmp_path, 4))
        assert len(report.quadruples) == 4
        fixed = run(server, samples=made_samples(tmp_path / "b", 12)[8:], structured="schema")
    assert fixed.failed == 4
    assert {ask.body["response_format"]["type"] for ask in server.asks if not misbehave(ask)} == {
        "json_object"
    }


def test_what_one_model_understands_says_nothing_of_another(run, tmp_path):
    def misbehave(ask: Ask) -> str | None:
        form = ask.body.get("response_format", {}).get("type")
        refused = ask.body["model"] == "judge" and form == "json_schema"
        return "status 400 response_format json_schema is not supported" if refused else None

    with ChatServer(misbehave) as server:
        report = run(server, samples=made_samples(tmp_path, 4), verifier="judge", concurrency=1)
    assert (len(report.quadruples), report.failed) == (4, 0)
    assert Counter((ask.body["model"], ask.body["response_format"]["type"]) for ask in server.asks) == {
        ("seer", "json_schema"): 4,
        ("judge", "json_schema"): 1,
        ("judge", "json_object"): 4,
    }


def test_a_request_that_wants_no_json_is_not_asked_in_other_formats():
    with ChatServer(lambda ask: "status 400 too hot") as server:
        endpoint = Endpoint(CompletionSettings(model="seer", base_url=server.url))
        with pytest.raises(RequestFailed, match="the endpoint says 400: too hot"):
            endpoint(PlainRequest(model="seer", content=("Mark it.",), max_tokens=5), Stopping())
    assert len(server.asks) == 1

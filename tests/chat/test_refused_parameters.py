"""Parameters that a server refuses or ignores are omitted or replaced from then on."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from chat_server import Ask
from pairuni.chat.endpoint import Endpoint
from pairuni.chat.request import RequestFailed, Stopping
from pairuni.config import CompletionSettings
from pairuni.pairug.completion.costs import usage_of
from raw_server import Says, ask, caption, completion, request, run, server, store_in


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
        report = run(one, tmp_path, count=2, temperature=0.0, concurrency=1)
        assert len(report.quadruples) == 2
        assert sum("temperature" in ask.body for ask in one.asks) == 1, "what is refused is learned once"
        assert all("response_format" in ask.body for ask in one.asks), "what is not named stays"
        assert len(one.asks) == 5
        told = [record.message for record in caplog.records if "without temperature" in record.message]
        assert len(told) == 1
        # the key of what was asked is that of the settings, so that nothing is asked twice
        assert run(one, tmp_path, count=2, temperature=0.0).quadruples == report.quadruples
        assert len(one.asks) == 5
    usage = usage_of(CompletionSettings(), store_in(tmp_path)).to_json()
    assert usage["asked_without_temperature"] == 4
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

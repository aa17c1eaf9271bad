"""Completions without an answer: named, never stored, requested again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pairuni.chat.request import FailureStreak, RequestsStopped
from pairuni.chat.responses import EmbeddedError, NoAnswer, parse_completion
from pairuni.config import CompletionSettings
from pairuni.pairug.completion.costs import usage_of
from raw_server import GOOD, Says, completion, run, server, store_in

PRICED = {"price_input": 1.0, "price_output": 1.0}
SAID = "SAID"
"""Stands for the good reply in the bodies below."""

NO_ANSWERS: dict[str, tuple[dict[str, Any], str]] = {
    "reasoning_content": (
        completion(None, reasoning_content=SAID),
        r"^an empty reply, with its text in reasoning_content \('.*'\); start the server without a",
    ),
    "reasoning": (completion("", reasoning=SAID), "with its text in reasoning "),
    "parts of reasoning": (
        completion([{"type": "thinking", "thinking": [{"type": "text", "text": SAID}]}]),
        "with its text in parts of reasoning",
    ),
    "a tool's call": (
        completion(None, tool_calls=[{"function": {"arguments": SAID}}]),
        "with its text in a tool call",
    ),
    "the limit": (
        completion(None, "length", reasoning_content=SAID),
        "^no reply, because reasoning used up the limit of tokens; raise max_tokens",
    ),
    "the limit, hidden": (completion("", "length"), "reasoning used up the limit of tokens"),
    "the limit, in the text": (completion(f"<think>{SAID}", "length"), "reasoning used up the limit"),
    "thoughts alone": (completion(f"<think>{SAID}</think>\n"), "^reasoning without a reply"),
    "nothing": (completion(None), "^an empty reply"),
    "blanks": (completion(" \n "), "^an empty reply"),
    "finish error": (completion(SAID, "error"), "^a reply that ended with 'error'"),
    "finish abort": (completion('{"cap', "abort"), "^a reply that ended with 'abort'"),
    "no choices": ({"choices": [], "usage": {}}, "^a completion without choices"),
    "null choices": ({"choices": None}, "^a completion without choices"),
    "an error": (
        {"error": {"message": "the engine died", "code": 503}},
        "^the engine died",
    ),
    "an error without a code": ({"error": "boom"}, "^boom"),
    "an error next to choices": (
        {**completion(SAID), "error": {"message": "cut", "type": "server_error"}},
        "^cut",
    ),
    "an error of a choice": (
        {"choices": [{"error": {"code": 502, "message": "upstream"}, "message": {"content": ""}}]},
        "^upstream",
    ),
    "an error of a router": (
        {"error": {"message": "Provider error", "code": 502, "metadata": {"raw": "overheated"}}},
        "^Provider error: overheated",
    ),
    "an error that is refused": (
        {"error": {"message": "bad image", "type": "invalid_request_error"}},
        "^bad image",
    ),
}


def sends(body: dict[str, Any]) -> Says:
    return lambda _, said: json.loads(json.dumps(body).replace(SAID, json.dumps(said)[1:-1]))


@pytest.mark.parametrize(("body", "reason"), NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_what_is_no_answer_is_named(body: dict[str, Any], reason: str) -> None:
    with pytest.raises((NoAnswer, EmbeddedError), match=reason):
        parse_completion(json.loads(json.dumps(body).replace(SAID, GOOD.replace('"', r"\""))))


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ("parts of reasoning", "sent an empty reply, with its text in parts of reasoning"),
        ("null choices", "sent a completion without choices"),
        ("an error", "the endpoint says 200 with the error 503: the engine died"),
        ("an error without a code", "the endpoint says 200 with the error 502: boom"),
        ("an error next to choices", "the endpoint says 200 with the error server_error: cut"),
        ("an error that is refused", "the endpoint says 200 with the error invalid_request_error: bad image"),
    ],
)
def test_what_is_no_answer_is_never_stored_and_asked_again(form: str, told: str, tmp_path: Path) -> None:
    with server(sends(NO_ANSWERS[form][0])) as one:
        first = run(one, tmp_path, count=2)
        assert (len(first.quadruples), first.failed, first.tries) == (0, 2, 0)
        assert all(told in dropped.reason for dropped in first.dropped)
        assert "answer" not in (tmp_path / "cache" / "answers.jsonl").read_text()
        one.says = None
        again = run(one, tmp_path, count=2)
    assert (len(again.quadruples), again.failed) == (2, 0)


def test_a_run_of_them_stops_the_build_and_the_same_command_asks_again(tmp_path: Path) -> None:
    with server(sends(NO_ANSWERS["reasoning_content"][0])) as one:
        told = "10 requests in a row got no answer, the last because .* sent an empty reply, with its text in"
        with pytest.raises(RequestsStopped, match=told):
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


@pytest.mark.parametrize(
    "body",
    [
        completion(None, refusal="No."),
        completion([{"type": "refusal", "refusal": "No."}]),
        completion(None, "content_filter"),
    ],
)
def test_a_refusal_is_an_answer(body: dict[str, Any], tmp_path: Path) -> None:
    with server(sends(body)) as one:
        report = run(one, tmp_path, count=2)
    assert (report.failed, report.tries) == (0, 6)
    assert "the model refused" in report.dropped[0].reason

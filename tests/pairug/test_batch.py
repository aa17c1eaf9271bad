"""OpenAI Batch files: rounds, errors, unrelated results, and incomplete files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chat_server import Ask, ChatServer, good_reply
from completion_samples import complete, made_samples
from pairuni.config import CompletionSettings
from pairuni.pairug.completion import batch
from pairuni.pairug.completion.annotator import make_annotator
from pairuni.pairug.completion.answer_store import AnswerStore
from pairuni.pairug.completion.completion import CompletionReport
from pairuni.pairug.completion.costs import CompletionPaused


def completed(folder: Path, count: int = 8, **settings: Any) -> CompletionReport:
    store = AnswerStore(folder / "out" / "cache" / "answers.jsonl")
    try:
        annotator = make_annotator("batch", CompletionSettings(model="seer", **settings))
        return complete(made_samples(folder / "raw", count), annotator, 2, store=store)
    finally:
        store.close()


def result(key: str, content: Any, finish: str = "stop", name: str = "", **message: Any) -> str:
    """A line of results that the service counts as good."""
    choice = {"message": {"content": content, **message}, "finish_reason": finish}
    response = {"status_code": 200, "body": {"choices": [choice]}}
    return json.dumps({"id": f"{name}{key}", "custom_id": key, "response": response, "error": None}) + "\n"


def requests_of(folder: Path) -> list[dict[str, Any]]:
    files = sorted((folder / "out" / "batch").glob("requests-*.jsonl"))
    return [json.loads(line) for path in files for line in path.read_text().splitlines()]


def answer(folder: Path, name: str, rows: list[dict[str, Any]], contradicting: bool = False) -> None:
    """What the service gives back for these requests, in another order."""
    lines = []
    for row in reversed(rows):
        ask = Ask(0, row["custom_id"], 1, row["body"], {}, row["url"])
        said = json.dumps(good_reply(ask, contradicting=contradicting and "check" not in ask.task))
        body = ChatServer._completion(ask, said)
        response = {"status_code": 200, "request_id": "r", "body": body}
        lines.append({"id": "b", "custom_id": row["custom_id"], "response": response, "error": None})
    (folder / "out" / "batch" / name).write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_rounds_until_everything_is_complete(tmp_path):
    with pytest.raises(
        CompletionPaused, match=r"8 new requests written, 0 still .*submit requests-001\.jsonl of"
    ):
        completed(tmp_path)
    first = requests_of(tmp_path)
    assert len({row["custom_id"] for row in first}) == 8
    for row in first:
        assert list(row) == ["custom_id", "method", "url", "body"]
        assert (row["method"], row["url"]) == ("POST", "/v1/chat/completions")
        assert row["body"]["response_format"]["type"] == "json_schema"
        assert row["body"]["messages"][1]["content"][0]["image_url"]["url"].startswith(
            "data:image/png;base64,"
        )

    before = (tmp_path / "out/batch/requests-001.jsonl").read_bytes()
    with pytest.raises(
        CompletionPaused, match=r"0 new requests written, 8 still without a result; submit req"
    ):
        completed(tmp_path)
    assert (tmp_path / "out/batch/requests-001.jsonl").read_bytes() == before

    answer(tmp_path, "batch_abc_output.jsonl", first, contradicting=True)
    with pytest.raises(
        CompletionPaused, match=r"8 new requests written, 0 still .*submit requests-002\.jsonl of"
    ):
        completed(tmp_path)
    for number in (2, 3, 4):
        answer(tmp_path, f"output-{number}.jsonl", requests_of(tmp_path)[8 * (number - 1) :])
        if number < 4:
            with pytest.raises(CompletionPaused, match=rf"requests-00{number + 1}\.jsonl"):
                completed(tmp_path)
    report = completed(tmp_path)
    assert (len(report.quadruples), report.tries, report.checks, report.retried) == (8, 16, 16, 8)
    assert len(requests_of(tmp_path)) == 32


def test_the_same_answers_live_and_by_batch_are_the_same_quadruples(tmp_path):
    with pytest.raises(CompletionPaused):
        completed(tmp_path)
    answer(tmp_path, "one.jsonl", requests_of(tmp_path))
    with ChatServer() as server:
        settings = CompletionSettings(model="seer", base_url=server.url)
        live_store = AnswerStore(tmp_path / "live" / "answers.jsonl")
        samples = made_samples(tmp_path / "raw", 8)
        live = complete(samples, make_annotator("endpoint", settings), 2, store=live_store)
        with pytest.raises(CompletionPaused):
            completed(tmp_path)
        # what a batch began, the endpoint finishes: only the verdicts are still to be paid
        asked = len(server.asks)
        store = AnswerStore(tmp_path / "out" / "cache" / "answers.jsonl")
        mixed = complete(samples, make_annotator("endpoint", settings), 2, store=store)
        assert len(server.asks) - asked == 8
    assert mixed == live


def test_what_comes_back_as_an_error_is_written_again_then_given_up(tmp_path):
    for number in range(1, 4):
        with pytest.raises(CompletionPaused):
            completed(tmp_path, count=2)
        rows = requests_of(tmp_path)
        broken = rows[0]["custom_id"]
        if number == 1:
            answer(tmp_path, "good.jsonl", rows[1:])
        error = {
            "custom_id": broken,
            "response": None,
            "error": {"code": "server_error", "message": "too late"},
        }
        if number == 2:
            error = {
                "custom_id": broken,
                "error": None,
                "response": {"status_code": 400, "body": {"error": {"message": "no"}}},
            }
        (tmp_path / "out" / "batch" / f"errors-{number}.jsonl").write_text(json.dumps(error) + "\n")
    check = [
        row for row in requests_of(tmp_path) if "Check a" in row["body"]["messages"][1]["content"][1]["text"]
    ]
    answer(tmp_path, "check.jsonl", check)
    report = completed(tmp_path, count=2)
    assert (len(report.quadruples), report.failed) == (1, 1)
    assert report.dropped[0].reason == "came back as an error from 3 batches, the last: too late"


def test_copies_of_a_file_of_errors_count_once_and_what_expired_counts_for_nothing(tmp_path):
    for number in range(1, 6):
        with pytest.raises(CompletionPaused, match=rf"submit requests-00{number}\.jsonl"):
            completed(tmp_path, count=1)
        (row,) = requests_of(tmp_path)[number - 1 :]
        expired = number != 3
        error = {"code": "batch_expired" if expired else "server_error", "message": "too late"}
        line = json.dumps(
            {"id": f"r{number}", "custom_id": row["custom_id"], "response": None, "error": error}
        )
        for copy in ("", " (1)", " (2)"):
            (tmp_path / "out" / "batch" / f"errors-{number}{copy}.jsonl").write_text(line + "\n")
    with pytest.raises(CompletionPaused, match="1 new requests written, 0 still without a result"):
        completed(tmp_path, count=1)


def test_files_keep_to_the_limits_and_to_the_budget(tmp_path, monkeypatch):
    monkeypatch.setattr(batch, "MOST_REQUESTS", 3)
    with pytest.raises(CompletionPaused, match=r"6 new .*requests-001\.jsonl, requests-002\.jsonl of"):
        completed(tmp_path, max_calls=6)
    with pytest.raises(CompletionPaused, match=r"0 new requests written, 6 still without"):
        completed(tmp_path, max_calls=6)
    answer(tmp_path, "results.jsonl", requests_of(tmp_path))
    with pytest.raises(CompletionPaused, match=r"the budget of 6 answers is used up"):
        completed(tmp_path, max_calls=6)
    size = len((tmp_path / "out/batch/requests-001.jsonl").read_bytes())
    monkeypatch.setattr(batch, "MOST_BYTES", size // 2)
    with pytest.raises(CompletionPaused, match=r"8 new requests written"):
        completed(tmp_path)
    files = sorted((tmp_path / "out" / "batch").glob("requests-*.jsonl"))
    assert all(path.stat().st_size <= size // 2 for path in files[2:])
    assert len(requests_of(tmp_path)) == 14


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            '{"custom_id": "a", "resp',
            r"results\.jsonl, line 1: is not valid JSON .*; download the results again",
        ),
        ('{"id": 3}\n', r"results\.jsonl, line 1: not a result of a batch"),
    ],
)
def test_what_is_no_result_is_named_and_nothing_is_lost(tmp_path, text, sentence):
    with pytest.raises(CompletionPaused):
        completed(tmp_path)
    answer(tmp_path, "a.jsonl", requests_of(tmp_path)[:5])
    (tmp_path / "out" / "batch" / "results.jsonl").write_text(text)
    with pytest.raises(ValueError, match=sentence):
        completed(tmp_path)
    (tmp_path / "out" / "batch" / "results.jsonl").unlink()
    with pytest.raises(CompletionPaused, match=r"5 new requests written, 3 still without a result"):
        completed(tmp_path)


def test_results_of_somebody_else_are_passed_over(tmp_path):
    with pytest.raises(CompletionPaused):
        completed(tmp_path)
    strange = [{**row, "custom_id": "f" * 32} for row in requests_of(tmp_path)[:1]]
    answer(tmp_path, "strange.jsonl", strange)
    with pytest.raises(CompletionPaused, match=r"0 new requests written, 8 still"):
        completed(tmp_path)
    assert (tmp_path / "out" / "cache" / "answers.jsonl").read_bytes() == b""


def test_images_that_cannot_be_sent_are_dropped_and_the_rest_is_written(tmp_path):
    samples = made_samples(tmp_path / "raw", 4)
    store = AnswerStore(tmp_path / "out" / "cache" / "answers.jsonl")
    spoilt = tmp_path / "raw" / "2.png"
    spoilt.write_bytes(spoilt.read_bytes()[:60])
    ended = {}
    with pytest.raises(CompletionPaused, match=r"3 new requests written, 0 still without a result"):
        make_annotator("batch", CompletionSettings(model="seer")).complete(
            samples, 2, store, ended.__setitem__
        )
    assert list(ended) == [2]
    assert "the image cannot be decoded" in ended[2].reason
    assert not ended[2].failed
    assert len(requests_of(tmp_path)) == 3


def test_results_without_an_answer_are_named_written_again_and_given_up(tmp_path):
    forms: list[tuple[dict[str, Any], str]] = [
        ({"content": None, "reasoning_content": "{}"}, "an empty reply, with its text in reasoning_content"),
        ({"content": None, "finish": "length"}, "because reasoning used up the limit of tokens"),
        ({"content": "{}", "finish": "error"}, "a reply that ended with 'error'"),
    ]
    with pytest.raises(CompletionPaused):
        completed(tmp_path, count=2)
    for number, (form, reason) in enumerate(forms, start=1):
        keys = [row["custom_id"] for row in requests_of(tmp_path)[-2:]]
        lines = [result(key, name=str(number), **form) for key in keys]
        (tmp_path / "out" / "batch" / f"output-{number}.jsonl").write_text("".join(lines))
        if number < len(forms):
            with pytest.raises(CompletionPaused, match=rf"2 of them came back without an answer, .*{reason}"):
                completed(tmp_path, count=2)
    report = completed(tmp_path, count=2)
    assert (len(report.quadruples), report.failed, report.tries) == (0, 2, 0)
    assert all(forms[-1][1] in one.reason for one in report.dropped)
    assert (tmp_path / "out" / "cache" / "answers.jsonl").read_bytes() == b""


def test_what_a_batch_refuses_by_name_is_written_another_way(tmp_path):
    def go() -> CompletionReport:
        return completed(tmp_path, count=2, temperature=0.0)

    with pytest.raises(CompletionPaused):
        go()
    first = requests_of(tmp_path)
    assert all(row["body"]["temperature"] == 0.0 for row in first)
    refusal = {
        "message": "Unsupported value: 'temperature'",
        "param": "temperature",
        "code": "unsupported_value",
    }
    lines = [
        {"id": row["custom_id"], "custom_id": row["custom_id"], "error": None}
        | {"response": {"status_code": 400, "body": {"error": refusal}}}
        for row in first
    ]
    (tmp_path / "out" / "batch" / "errors.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    with pytest.raises(CompletionPaused, match=r"2 new requests written, .* the last: Unsupported value"):
        go()
    assert [row["custom_id"] for row in requests_of(tmp_path)[2:]] == [row["custom_id"] for row in first]
    assert all("temperature" not in row["body"] for row in requests_of(tmp_path)[2:])
    answer(tmp_path, "halves.jsonl", requests_of(tmp_path)[2:])
    with pytest.raises(CompletionPaused):
        go()
    answer(tmp_path, "verdicts.jsonl", requests_of(tmp_path)[4:])
    assert len(go().quadruples) == 2
    assert AnswerStore(tmp_path / "out" / "cache" / "answers.jsonl").left_out == {"temperature": 4}

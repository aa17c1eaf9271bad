"""Completion at good and faulty endpoints: requests, retries, rate limits, and the outcomes."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from chat_server import Ask, ChatServer, good_reply
from completion_samples import made_samples, real_samples
from pairuni.chat.faults import retry_after
from pairuni.chat.request import RequestsStopped
from pairuni.config import CompletionSettings
from pairuni.pairug.completion import scheduling
from pairuni.pairug.completion.annotator import make_annotator
from pairuni.records import UnderstandingSample
from pairuni.rewards.answers.options import parse_options


def test_every_sample_ends_in_one_way_and_the_counts_add_up(run, tmp_path):
    samples = real_samples(48) or made_samples(tmp_path, 48)
    kinds = ["429", "500", "cut envelope", "drop", "cut", "refuse", "contradict", "status 413 too large"]

    def misbehave(ask: Ask) -> str | None:
        place = int(ask.share("kind") * 20)
        passing = place < 4
        return kinds[place] if place < len(kinds) and (ask.delivery == 1 or not passing) else None

    with ChatServer(misbehave) as server:
        report = run(server, samples=samples)
    assert len(report.quadruples) + len(report.dropped) == len(samples)
    assert {one.id for one in report.quadruples} | {one.id for one in report.dropped} == {
        s.id for s in samples
    }
    assert [one.id for one in report.quadruples] == [
        s.id for s in samples if s.id in {one.id for one in report.quadruples}
    ]
    assert report.failed == sum(one.failed for one in report.dropped) > 0
    assert report.retried > 0
    for one in report.dropped:
        wanted = "the endpoint says 413: too large" if one.failed else "refused 3 times, at last: "
        assert one.reason.startswith(wanted)
    stored = [json.loads(line) for line in (tmp_path / "cache/answers.jsonl").read_text().splitlines()]
    # a second try that writes the same half again has its verdict already
    assert len(stored) <= report.tries + report.checks <= len(stored) + report.retried
    assert len({row["key"] for row in stored}) == len(stored)
    assert {kind for ask in server.asks if (kind := misbehave(ask))} == set(kinds)
    for one, sample in ((q, s) for q in report.quadruples for s in samples if s.id == q.id):
        if one.origin == "understanding":
            assert one.prompt == f"A plain image that shows {sample.answer}."
            assert (one.question, one.answer) == (sample.question, sample.answer)
        else:
            right = sample.prompt.strip(" .").split()[-1].lower()
            assert parse_options(one.question)[one.answer] == right.rstrip(".,;").strip()
            assert one.question.endswith("Answer with the options letter from the given choices directly.")
    letters = Counter(one.answer for one in report.quadruples if one.origin == "generation")
    assert max(letters.values()) - min(letters[letter] for letter in "ABCD") <= 1


def test_what_is_sent(run, tmp_path, monkeypatch):
    monkeypatch.setenv("SEER_KEY", "sk-the-key-of-the-seer")
    small, large = tmp_path / "small.jpg", tmp_path / "large.png"
    Image.new("RGB", (30, 20), "red").save(small)
    Image.new("RGB", (300, 100), "blue").save(large)
    samples = [
        UnderstandingSample(id="a", image_path=str(small), question="Which colour?", answer="red"),
        UnderstandingSample(id="b", image_path=str(large), question="Which colour? {brace}", answer="blue"),
    ]
    with ChatServer() as server:
        report = run(
            server, samples=samples, key_variable="SEER_KEY", verifier="judge", image_side=64, temperature=0.5
        )
    assert (len(report.quadruples), report.tries, report.checks) == (2, 2, 2)
    assert Counter(ask.body["model"] for ask in server.asks) == {"seer": 2, "judge": 2}
    urls = {}
    for ask in server.asks:
        assert ask.path == "/v1/chat/completions"
        assert ask.headers["authorization"] == "Bearer sk-the-key-of-the-seer"
        assert (ask.body["temperature"], ask.body["max_completion_tokens"]) == (0.5, 2048)
        form = ask.body["response_format"]["json_schema"]
        assert form["strict"] is True
        assert form["schema"]["additionalProperties"] is False
        assert list(good_reply(ask)) == form["schema"]["required"] == list(form["schema"]["properties"])
        urls["brace" in ask.text] = ask.body["messages"][1]["content"][0]["image_url"]["url"]
    assert urls[False] == "data:image/jpeg;base64," + base64.b64encode(small.read_bytes()).decode()
    kind, _, data = urls[True].partition(";base64,")
    (tmp_path / "sent.png").write_bytes(base64.b64decode(data))
    assert kind == "data:image/png"
    assert Image.open(tmp_path / "sent.png").size == (64, 21)


@pytest.mark.parametrize("fault", ["429", "500", "hang", "drop", "cut envelope", "status 503 busy"])
def test_what_passes_is_asked_again(run, tmp_path, fault):
    with ChatServer(lambda ask: fault if ask.delivery <= 2 else None) as server:
        report = run(server, samples=made_samples(tmp_path, 2), timeout=0.4 if fault == "hang" else 5.0)
    assert (len(report.quadruples), report.tries, report.checks) == (2, 2, 2)
    assert {ask.delivery for ask in server.asks} == {1, 2, 3}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("429", "gave no answer in 3 attempts, the last: the endpoint says 429: you asked for it"),
        ("500", "gave no answer in 3 attempts, the last: the endpoint says 500: oh no"),
        ("hang", "gave no answer in 3 attempts, the last: no answer within 0.2 seconds"),
        ("drop", "gave no answer in 3 attempts, the last: the connection broke"),
        ("cut envelope", "gave no answer in 3 attempts, the last: the answer is not a chat completion"),
    ],
)
def test_what_does_not_pass_fails_after_bounded_attempts(run, tmp_path, fault, reason):
    with ChatServer(lambda ask: fault) as server:
        report = run(
            server, samples=made_samples(tmp_path, 1), max_retries=2, timeout=0.2 if fault == "hang" else 5.0
        )
    assert len(server.asks) == 3
    assert (report.failed, report.tries) == (1, 0)
    assert report.dropped[0].reason.startswith(f"{server.url} {reason}")


def test_retry_after_holds_all_requests_back(run, tmp_path):
    began: list[float] = []

    def misbehave(ask: Ask) -> str | None:
        began.append(time.monotonic())
        return "429 0.6" if ask.serial == 0 else None

    with ChatServer(misbehave, seconds=0.01) as server:
        report = run(server, samples=made_samples(tmp_path, 12), concurrency=2)
    assert len(report.quadruples) == 12
    first = began[0]
    early = [moment for moment in began if moment - first < 0.3]
    assert len(early) <= 6, "requests went on while the server asked for rest"
    assert any(moment - first > 0.55 for moment in began)


def test_a_limited_rate_costs_time_and_no_sample(run, tmp_path):
    lock = threading.Lock()
    next_one = time.monotonic()

    def one_in_20_milliseconds(ask: Ask) -> str | None:
        nonlocal next_one
        with lock:
            now = time.monotonic()
            if now < next_one:
                return "429 0.02"
            next_one = now + 0.02
            return None

    with ChatServer(one_in_20_milliseconds) as server:
        report = run(server, samples=made_samples(tmp_path, 16), concurrency=16, max_retries=3)
    assert (len(report.quadruples), report.failed) == (16, 0)
    assert len(server.asks) < 6 * 32


def test_a_rest_of_no_seconds_is_not_taken_at_its_word_for_ever(run, tmp_path):
    ends = time.monotonic() + 0.2
    with ChatServer(lambda ask: "429 0" if time.monotonic() < ends else None) as server:
        report = run(server, samples=made_samples(tmp_path, 2), concurrency=1, max_retries=6)
    assert (len(report.quadruples), report.failed) == (2, 0)


def test_retry_after_in_all_its_forms():
    assert retry_after({"retry-after": "7"}) == 7
    assert retry_after({"retry-after-ms": "250", "retry-after": "7"}) == 0.25
    assert retry_after({"retry-after": "-3"}) == 0
    in_a_minute = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 60))
    assert 55 < retry_after({"retry-after": in_a_minute}) <= 60
    for nonsense in ("soon", "nan", "inf", ""):
        assert retry_after({"retry-after": nonsense}) is None
    assert retry_after({}) is None


def test_the_limit_of_concurrency_is_used_and_kept(run, tmp_path):
    with ChatServer(seconds=0.05, together=5) as server:
        run(server, samples=made_samples(tmp_path, 20), concurrency=5)
    assert server.most_at_once == 5


def test_a_contradicting_caption_is_written_again_with_the_reason(run, tmp_path):
    samples = made_samples(tmp_path, 2)
    writing = ("caption", "question")
    with ChatServer(lambda ask: "contradict" if ask.task in writing and ask.tries == 0 else None) as server:
        report = run(server, samples=samples)
    assert (len(report.quadruples), report.retried, report.tries, report.checks) == (2, 2, 4, 4)
    again = next(ask for ask in server.asks if ask.task == "caption" and ask.tries == 1)
    assert (
        "1. the caption 'An image of WRONG things.' does not hold: it contradicts the picture; it leads "
        in again.text
    )
    assert "the image shows no WRONG things" in again.text
    again = next(ask for ask in server.asks if ask.task == "question" and ask.tries == 1)
    assert "the picture leads to 'none', not to 'n0'" in again.text


def test_the_verifier_of_a_question_is_not_told_the_answer(run, tmp_path):
    with ChatServer() as server:
        run(server, samples=made_samples(tmp_path, 40))
    places = Counter()
    for ask in server.asks:
        if ask.task == "check question":
            places[good_reply(ask)["letter_from_caption"]] += 1
    assert set(places) == set("ABCD")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("refuse", "the model refused: 'I cannot help with that image.'"),
        ("cut", "the reply was cut off: "),
    ],
)
def test_what_is_never_said_is_dropped(run, tmp_path, fault, reason):
    with ChatServer(lambda ask: fault) as server:
        report = run(server, samples=made_samples(tmp_path, 2), max_tries=2)
    assert (report.failed, report.tries, report.checks, len(server.asks)) == (0, 4, 0, 4)
    assert all(one.reason.startswith(f"refused 2 times, at last: {reason}") for one in report.dropped)


def test_a_verdict_that_cannot_be_read_is_asked_for_again(run, tmp_path):
    samples = made_samples(tmp_path, 2)
    with ChatServer(
        lambda ask: "cut" if "check" in ask.task and "attempt" not in ask.text else None
    ) as server:
        report = run(server, samples=samples)
    assert (len(report.quadruples), report.tries, report.checks) == (2, 2, 4)


@pytest.mark.parametrize("own_check", ["states_every_fact", "names_only_what_is_shown", "only_one_right"])
def test_a_reply_that_fails_its_own_check_is_not_verified(run, tmp_path, own_check):
    def honest(ask: Ask) -> dict[str, Any]:
        said = good_reply(ask)
        return {**said, own_check: False} if own_check in said else said

    with ChatServer(reply=honest) as server:
        report = run(server, samples=made_samples(tmp_path, 2), max_tries=2)
    assert (len(report.quadruples), report.tries, report.checks) == (1, 3, 1)
    assert "by its own check" in report.dropped[0].reason


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("html", r"responds with an HTML page instead of a chat completion"),
        (
            "status 401 bad key",
            r"says 401: bad key; is the key in the environment variable OPENAI_API_KEY the",
        ),
        ("status 403 not yours", r"says 403: not yours; is the key"),
        (
            "status 404 no such model",
            r"says 404: no such model; check completion\.base_url .* and completion\.model",
        ),
    ],
)
def test_what_no_request_survives_stops_the_run_and_nothing_is_lost(run, tmp_path, fault, sentence):
    samples = made_samples(tmp_path, 10)
    with ChatServer(lambda ask: fault if ask.serial >= 8 else None) as server:
        with pytest.raises(RequestsStopped, match=sentence):
            run(server, samples=samples, concurrency=4)
        assert len(server.asks) <= 12
        server.misbehave = lambda ask: None
        before = len(server.asks)
        report = run(server, samples=samples)
    assert len(report.quadruples) == 10
    assert len(server.asks) - before == 20 - 8


def test_many_failures_in_a_row_stop_the_run(run, tmp_path, monkeypatch):
    monkeypatch.setattr(scheduling, "FAILURES_IN_A_ROW", 5)
    with (
        ChatServer(lambda ask: "status 413 too large") as server,
        pytest.raises(
            RequestsStopped,
            match="5 samples in a row failed, the last because: the endpoint says 413: too large",
        ),
    ):
        run(server, samples=made_samples(tmp_path, 30), concurrency=1)
    assert len(server.asks) == 5


def test_a_server_that_is_not_there_is_named(tmp_path, run):
    with ChatServer() as server:
        pass
    report = run(server, samples=made_samples(tmp_path, 2), max_retries=1)
    assert report.failed == 2
    assert "the connection broke" in report.dropped[0].reason


def test_same_requests_are_paid_once(run, tmp_path):
    first = made_samples(tmp_path, 2)
    copies = [one.model_copy(update={"id": f"{one.id}-{number}"}) for one in first for number in range(6)]
    with ChatServer(seconds=0.05) as server:
        report = run(server, samples=copies, concurrency=12)
    assert len(report.quadruples) == 12
    written = [ask for ask in server.asks if ask.task in ("caption", "question")]
    assert len(written) == 2


def test_images_that_cannot_be_used_are_dropped_unasked(run, tmp_path):
    samples = made_samples(tmp_path, 3)
    Path(samples[0].image_path).write_bytes(b"no image")
    cut = Path(samples[1].image_path)
    cut.write_bytes(cut.read_bytes()[:50])
    with ChatServer() as server:
        report = run(server, samples=samples)
    reasons = {one.id: one.reason for one in report.dropped}
    assert reasons.keys() == {"s0", "s1"}
    assert report.failed == 0
    assert reasons["s0"] == "the image is not a supported image"
    assert "the image cannot be decoded" in reasons["s1"]
    assert len(server.asks) == 2


def test_the_endpoint_needs_a_key_or_an_address_of_one_s_own(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(ValueError, match="the environment variable OPENAI_API_KEY is not set"):
        make_annotator("endpoint", CompletionSettings(model="m"))
    make_annotator("endpoint", CompletionSettings(model="m", base_url="http://localhost:1/v1"))
    with pytest.raises(ValueError, match="must be like http://localhost:8000/v1"):
        make_annotator("endpoint", CompletionSettings(model="m", base_url="localhost:8000"))

"""Plans of costs, and budgets that are never exceeded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from chat_server import Ask, ChatServer
from colour_world import small
from completion_samples import complete, corpora, made_samples
from pairuni.cli.app import app
from pairuni.config import CompletionSettings
from pairuni.pairug.completion.annotator import make_annotator
from pairuni.pairug.completion.answer_store import AnswerStore
from pairuni.pairug.completion.completion import CompletionReport
from pairuni.pairug.completion.costs import CompletionPaused, Plan
from pairuni.pairug.completion.model_annotator import ModelAnnotator

PRICES = {"price_input": 2.0, "price_output": 10.0}
ONE_ANSWER = (1000 * 2.0 + 100 * 10.0) / 1e6
"""What the server of the tests charges for an answer: 1,000 tokens in, 100 out."""


def settings_at(server: ChatServer, **settings: Any) -> CompletionSettings:
    return CompletionSettings(model="seer", base_url=server.url, **settings)


def completed(folder: Path, settings: CompletionSettings, count: int = 10) -> CompletionReport:
    store = AnswerStore(folder / "cache" / "answers.jsonl")
    try:
        annotator = make_annotator("endpoint", settings)
        return complete(made_samples(folder, count), annotator, 3, store=store)
    finally:
        store.close()


def planned(folder: Path, settings: CompletionSettings, count: int = 10) -> Plan:
    path = folder / "cache" / "answers.jsonl"
    store = AnswerStore(path) if path.exists() else None
    return ModelAnnotator("endpoint", settings).plan(made_samples(folder, count), 3, store)


def test_a_plan_before_during_and_after(tmp_path):
    with ChatServer() as server:
        settings = settings_at(server, **PRICES, max_calls=7, concurrency=2)
        before = planned(tmp_path, settings)
        assert (before.samples, before.completed, before.stored, before.measured) == (10, 0, 0, False)
        assert (before.least_calls, before.most_calls) == (20, 60)
        assert before.completion_tokens == 20 * 300
        assert 200 * 20 < before.prompt_tokens < 1000 * 20
        assert before.least_cost == pytest.approx((before.prompt_tokens * 2 + 6000 * 10) / 1e6, rel=1e-3)
        assert before.most_cost == pytest.approx(3 * before.least_cost)
        assert not server.asks

        with pytest.raises(CompletionPaused):
            completed(tmp_path, settings)
        during = planned(tmp_path, settings)
        assert (during.stored, during.least_calls, during.measured) == (7, 13, True)
        assert during.least_cost == pytest.approx(13 * ONE_ANSWER)
        assert (during.prompt_tokens, during.completion_tokens) == (13_000, 1_300)

        completed(tmp_path, settings_at(server))
        after = planned(tmp_path, settings)
        assert (after.completed, after.least_calls, after.most_calls, after.least_cost) == (10, 0, 0, 0)
        assert len(server.asks) == 20


def test_a_budget_of_answers_is_never_passed_and_raising_it_goes_on(tmp_path):
    with ChatServer(seconds=0.01) as server:
        for most in (0, 5, 5, 11):
            with pytest.raises(
                CompletionPaused, match=rf"budget of {most} answers .* raise completion\.max_calls"
            ):
                completed(tmp_path, settings_at(server, max_calls=most))
            assert len(server.asks) == most
        report = completed(tmp_path, settings_at(server, max_calls=20))
    assert len(report.quadruples) == 10
    assert len(server.asks) == 20


def test_a_budget_of_money_holds_whatever_comes_back(tmp_path):
    longest = 500
    with ChatServer(seconds=0.01) as server:
        for budget in (0.02, 0.03):
            settings = settings_at(server, **PRICES, max_cost=budget, max_tokens=longest)
            with pytest.raises(
                CompletionPaused, match=r"of the budget of 0\.0\d is spent .* completion\.max_cost"
            ):
                completed(tmp_path, settings)
            spent = len(server.asks) * ONE_ANSWER
            assert spent <= budget
            # not before one longest reply, with an image that was guessed too small, did not fit any more,
            # however many requests were in flight
            assert spent + (longest * 10 + 1000 * 2) / 1e6 > budget
        store = AnswerStore(tmp_path / "cache" / "answers.jsonl")
        assert (store.prompt_tokens, store.completion_tokens) == (1000 * len(store), 100 * len(store))
        report = completed(tmp_path, settings_at(server, **PRICES, max_cost=1.0, max_tokens=longest))
    assert len(report.quadruples) == 10
    assert len(server.asks) == 20


def test_the_command_states_the_cost_and_stops_at_the_budget(tmp_path, monkeypatch):
    monkeypatch.setattr("pairuni.api.pairs.make_encoder", lambda name: small)

    def run(*words: str) -> Any:
        return CliRunner().invoke(app, ["pairs", "build", *corpora(tmp_path, 8), *words])

    with ChatServer(lambda ask: "status 413 no" if ask.share("fail") < 0.1 else None) as server:
        model = ["--annotator", "endpoint", "--completion.model", "seer", "--completion.base-url", server.url]
        prices = ["--completion.price-input", "2", "--completion.price-output=10"]
        dry = run(*model, *prices, "--dry-run")
        assert dry.exit_code == 0, dry.output
        assert (
            "calls         16 if every reply is good at once, 48 if every sample takes all its tries\n"
            in dry.output
        )
        assert 'model = "seer"' in dry.output
        assert "received in 16 calls, estimated\n" in dry.output
        assert not server.asks
        assert not (tmp_path / "out").exists()

        paused = run(*model, "--completion.max-calls", "3")
        assert paused.exit_code == 3, paused.output
        assert "raise completion.max_calls and run the same command to continue" in paused.output
        assert "measured on 3 stored answers" in run(*model, "--dry-run").output
        server.misbehave = lambda ask: (
            "status 413 no" if ask.task == "check caption" and "n7" in marks(ask) else None
        )
        whole = run(*model)
    assert whole.exit_code == 0, whole.output
    assert "8 samples, 7 completed, 0 dropped, 1 failed; " in whole.output
    stats = json.loads((tmp_path / "out" / "stats.json").read_text())
    assert stats["build"]["failed"] == 1
    (failed,) = [json.loads(line) for line in (tmp_path / "out" / "dropped.jsonl").read_text().splitlines()]
    assert failed["failed"] is True
    assert "nothing to pay" in run("--annotator", "scene", "--dry-run").output


def marks(ask: Ask) -> str:
    return "n7" if "no 7" in ask.text else ""

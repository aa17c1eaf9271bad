"""Keys stay in the environment: not in files, logs, sentences, tracebacks or the client's own exceptions."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

from chat_server import Ask, ChatServer, good_reply
from completion_samples import complete_at, corpora, made_samples
from kill_events import run_child
from pairuni.chat.request import RequestsStopped
from pairuni.cli.app import main
from pairuni.config import CompletionSettings
from pairuni.pairug.completion.annotator import make_annotator
from pairuni.pairug.completion.completion import CompletionReport
from raw_server import KEY


def completed(server: ChatServer, folder: Path) -> CompletionReport:
    return complete_at(server, folder, made_samples(folder, 2), 2, max_retries=1, timeout=3.0)


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("status", ["401", "413", "500"])
def test_a_server_that_repeats_the_key_in_its_error(tmp_path, status, caplog):
    caplog.set_level(logging.DEBUG)
    raised: Exception | None = None
    with ChatServer(lambda ask: f"status {status} the key {KEY} is not right") as server:
        try:
            told = " ".join(one.reason for one in completed(server, tmp_path).dropped)
        except Exception as error:
            raised = error
            told = "".join(traceback.format_exception(error)) + repr(error.__dict__)
        assert any(KEY in ask.headers["authorization"] for ask in server.asks)
    if raised is not None:
        assert raised.__cause__ is None
        assert raised.__context__ is None, "the client's exception, which holds the request, is passed on"
    assert "the key *** is not right" in told
    assert KEY not in told
    assert KEY not in caplog.text
    assert KEY.encode() not in everything(tmp_path)


def test_a_model_that_repeats_the_key_in_its_answer(tmp_path):
    def telling(ask: Ask) -> dict[str, Any]:
        said = good_reply(ask)
        if "caption" in said:
            said["caption"] += f" {KEY}"
        return said

    with ChatServer(reply=telling) as server:
        report = completed(server, tmp_path)
    assert any("***" in one.prompt for one in report.quadruples)
    assert KEY.encode() not in everything(tmp_path)
    assert not any(KEY in one.prompt for one in report.quadruples)


@pytest.mark.parametrize("spoilt", [f"{KEY}\nX-Evil: 1", f"{KEY} {KEY}", f"{KEY}\u00e9", f"{KEY}\x7f"])
def test_a_key_that_no_header_can_hold(monkeypatch, spoilt):
    monkeypatch.setenv("OPENAI_API_KEY", spoilt)
    with pytest.raises(ValueError, match="OPENAI_API_KEY contains characters that no key has") as caught:
        make_annotator("endpoint", CompletionSettings(model="m"))
    assert KEY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("name", ["endpoint", "scene"])
def test_a_key_given_as_a_setting_is_refused_unseen(name, monkeypatch):
    with pytest.raises(ValueError, match="must be the name of an environment variable") as caught:
        make_annotator(name, CompletionSettings(model="m", key_variable=KEY))
    assert KEY not in str(caught.value)
    for url in (f"http://me:{KEY}@host/v1", f"http://host/v1?api_key={KEY}"):
        with pytest.raises(ValueError, match="must not contain a user, password or query") as caught:
            make_annotator(name, CompletionSettings(model="m", base_url=url))
        assert KEY not in str(caught.value)
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        with pytest.raises(ValueError, match="OPENAI_BASE_URL must not contain a user") as caught:
            make_annotator(name, CompletionSettings(model="m"))
        assert KEY not in str(caught.value)


def test_the_key_of_a_file_s_end_is_taken_without_its_line_end(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", f"  {KEY}\n")
    with ChatServer() as server:
        assert len(completed(server, tmp_path).quadruples) == 2
    assert {ask.headers["authorization"] for ask in server.asks} == {f"Bearer {KEY}"}


def test_the_command_with_all_logging_and_a_traceback(tmp_path):
    words = ["pairs", "build", *corpora(tmp_path, 8), "--traceback", "--annotator", "endpoint"]
    words += ["--encoder", "policy:tiny", "--completion.timeout", "0.3", "--completion.max-retries", "0"]

    def command() -> None:
        with (tmp_path / "said").open("w") as said:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
        logging.basicConfig(level=0, force=True)
        sys.argv = ["pairuni", *words, "--completion.model", "seer", "--completion.base-url", server.url]
        try:
            main()
        except RequestsStopped:
            sys.excepthook(*sys.exc_info())

    with ChatServer(lambda ask: f"status 401 {KEY}?" if ask.serial > 2 else None) as server:
        run_child(command)
        assert server.asks
    said = (tmp_path / "said").read_text()
    assert "Traceback" in said
    assert "DEBUG" in said
    assert "says 401: ***?" in said
    assert (tmp_path / "out" / "cache" / "answers.jsonl").read_bytes()
    assert KEY.encode() not in everything(tmp_path)

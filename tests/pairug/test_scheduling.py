"""Dialogues in order, in threads and in rounds: the same outcomes, no request twice, Ctrl-C keeps answers."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from pairuni.chat.request import RequestFailed
from pairuni.io.images import ImageError
from pairuni.pairug.completion.answer_store import AnswerStore
from pairuni.pairug.completion.dialogue import Outcome
from pairuni.pairug.completion.scheduling import concurrently, in_order, in_rounds, next_request


@dataclass(frozen=True)
class Question:
    key: str


def counting(name: str, length: int):
    """A conversation of ``length`` questions whose outcome tells all answers."""

    def begin():
        if name == "bad":
            raise ImageError("is no image")
        said = []
        try:
            for number in range(length):
                answer = yield Question(f"{name}-{number}")
                said.append(answer["text"])
        except RequestFailed as error:
            return Outcome(None, f"{error} after {said}", failed=True)
        return Outcome(None, ",".join(said))

    return begin


TALKS = [
    counting("a", 3),
    counting("b", 0),
    counting("bad", 1),
    counting("c", 1),
    counting("a", 3),
    counting("d", 5),
]
EXPECTED = ["A-0,A-1,A-2", "", "the image is no image", "C-0", "A-0,A-1,A-2", "D-0,D-1,D-2,D-3,D-4"]


def upper(question: Question) -> dict[str, str]:
    return {"text": question.key.upper()}


def drive(way: str, store: AnswerStore, asked: list[str]) -> list[str]:
    ended: dict[int, Outcome] = {}

    def ask(question, stopping=None):
        asked.append(question.key)
        return upper(question)

    if way == "in order":
        in_order(TALKS, ask, store, ended.__setitem__)
    elif way == "at once":
        concurrently(TALKS, ask, store, ended.__setitem__, 3)
    else:
        width = int(way.split()[-1])
        in_rounds(TALKS, lambda some: [ask(one) for one in some], store, ended.__setitem__, width)
    return [ended[number].reason for number in range(len(TALKS))]


@pytest.mark.parametrize(
    "way", ["in order", "at once", "rounds of 1", "rounds of 2", "rounds of 6", "rounds of 60"]
)
def test_all_ways_end_the_same_and_ask_each_question_once(tmp_path, way):
    asked: list[str] = []
    store = AnswerStore(tmp_path / "answers.jsonl")
    assert drive(way, store, asked) == EXPECTED
    assert sorted(asked) == sorted({f"a-{n}" for n in range(3)} | {"c-0"} | {f"d-{n}" for n in range(5)})
    assert drive(way, AnswerStore(tmp_path / "answers.jsonl"), asked) == EXPECTED
    assert len(asked) == 9


def test_rounds_go_on_with_what_there_is_and_end_what_fails(tmp_path):
    store = AnswerStore(tmp_path / "answers.jsonl")
    ended: dict[int, Outcome] = {}
    rounds: list[list[str]] = []

    def ask_all(some):
        rounds.append([one.key for one in some])
        return [
            None
            if one.key == "d-1" and len(rounds) < 4
            else RequestFailed("no")
            if one.key == "a-1"
            else upper(one)
            for one in some
        ]

    in_rounds(TALKS, ask_all, store, ended.__setitem__, 6)
    assert ended[0] == ended[4] == Outcome(None, "no after ['A-0']", failed=True)
    assert ended[5].reason == EXPECTED[5]
    assert rounds[:4] == [["a-0", "c-0", "d-0"], ["a-1", "d-1"], ["d-1"], ["d-1"]]


def test_how_far_stored_answers_carry(tmp_path):
    store = AnswerStore(tmp_path / "answers.jsonl")
    store.put("a-0", {"text": "x"})
    assert next_request(TALKS[0], store) == (Question("a-1"), None)
    assert next_request(TALKS[0], None) == (Question("a-0"), None)
    assert next_request(TALKS[1], store) == (None, Outcome(None, ""))
    assert next_request(TALKS[2], store)[1].reason == EXPECTED[2]


def test_ctrl_c_keeps_what_is_in_flight_and_sends_nothing_new(tmp_path: Path):
    store = AnswerStore(tmp_path / "answers.jsonl")
    asked: list[str] = []
    sent = threading.Event()

    def slow(question, stopping):
        asked.append(question.key)
        if len(asked) == 3:
            sent.set()
        assert stopping.wait(30)
        return upper(question)

    def interrupt():
        sent.wait(5)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    talks = [counting(f"t{number}", 4) for number in range(30)]
    with pytest.raises(KeyboardInterrupt):
        concurrently(talks, slow, store, lambda number, outcome: None, 3)
    assert len(asked) == 3
    assert sorted(asked) == sorted(key for key in asked if key in store)

"""The answer store: append-only, after kills, cut or damaged lines and a full disk."""

from __future__ import annotations

import errno
import json
import os
import threading

import pytest

from pairuni.pairug.completion.answer_store import AnswerStore


def test_answers_outlive_the_store_and_are_counted(tmp_path):
    store = AnswerStore(tmp_path / "a" / "answers.jsonl")
    assert store.get("k") is None
    assert store.put("k", {"text": "é\n", "prompt_tokens": 5, "completion_tokens": 2}) == {
        "text": "é\n",
        "prompt_tokens": 5,
        "completion_tokens": 2,
    }
    store.put("l", {"ok": True})
    again = AnswerStore(store.path)
    assert again.get("k") == store.get("k")
    assert (len(again), again.prompt_tokens, again.completion_tokens) == (2, 5, 2)
    assert "l" in again


def test_the_first_answer_of_a_key_holds(tmp_path):
    store = AnswerStore(tmp_path / "answers.jsonl")
    assert store.put("k", {"text": "first"}) == {"text": "first"}
    assert store.put("k", {"text": "second"}) == {"text": "first"}
    assert len(store.path.read_bytes().splitlines()) == 1


@pytest.mark.parametrize("cut", range(1, 40, 6))
def test_a_line_that_a_kill_cut_off_is_asked_again(tmp_path, cut):
    store = AnswerStore(tmp_path / "answers.jsonl")
    store.put("k", {"text": "whole"})
    store.put("l", {"text": "half of this is lost"})
    store.close()
    store.path.write_bytes(store.path.read_bytes()[:-cut])
    cut_off = store.path.read_bytes()
    again = AnswerStore(store.path)
    assert store.path.read_bytes() == cut_off, "reading changed the file"
    assert again.get("k") == {"text": "whole"}
    assert again.get("l") is None
    again.put("l", {"text": "new"})
    assert [json.loads(line)["key"] for line in store.path.read_text().splitlines()] == ["k", "l"]


def test_a_spoilt_line_is_passed_over_with_a_warning(tmp_path, caplog):
    path = tmp_path / "answers.jsonl"
    lines = [
        '{"key": "a", "answer": {"text": "x"}}',
        "\0\0\0",
        '{"key": 3}',
        "[]",
        '{"key": "b", "answer": {}}',
        "",
    ]
    path.write_text("\n".join(lines))
    store = AnswerStore(path)
    assert (store.get("a"), store.get("b"), len(store)) == ({"text": "x"}, {}, 2)
    assert [f"line {number}:" in caplog.text for number in (1, 2, 3, 4, 5)] == [
        False,
        True,
        True,
        True,
        False,
    ]


def test_a_full_disk_leaves_whole_lines(tmp_path, monkeypatch):
    store = AnswerStore(tmp_path / "answers.jsonl")
    store.put("k", {"text": "whole"})
    before = store.path.read_bytes()
    write = os.write

    def full(file: int, data: bytes) -> int:
        if len(data) > 9:
            return write(file, data[:9])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match=r"No space left on device.*answers\.jsonl"):
        store.put("l", {"text": "of any len"})
    monkeypatch.undo()
    assert store.path.read_bytes() == before
    store.put("m", {"text": "more"})
    assert len(AnswerStore(store.path)) == 2


def test_many_threads_write_whole_lines(tmp_path):
    store = AnswerStore(tmp_path / "answers.jsonl")

    def write(thread: int) -> None:
        for number in range(100):
            answer = store.put(f"{number}", {"text": f"{thread}" * 50, "prompt_tokens": 1})
            assert store.get(f"{number}") == answer

    threads = [threading.Thread(target=write, args=(thread,)) for thread in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    again = AnswerStore(store.path)
    assert len(again) == again.prompt_tokens == store.prompt_tokens == 100


def test_two_builds_do_not_write_into_one_file(tmp_path):
    path = tmp_path / "answers.jsonl"
    late = AnswerStore(path)
    with AnswerStore(path) as first:
        with pytest.raises(ValueError, match=r"answers\.jsonl: another build"):
            AnswerStore(path).__enter__()
        first.put("k", {"text": "x"})
        assert AnswerStore(path).get("k") == {"text": "x"}
    with late:
        assert late.put("k", {"text": "y"}) == {"text": "x"}
        late.put("l", {"text": "z"})
    assert len(AnswerStore(path)) == 2

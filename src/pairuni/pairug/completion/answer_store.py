"""Answers by the key of their request, in an append-only file: no stored request is sent again."""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter
from pathlib import Path
from typing import Self

from pairuni.chat.request import Answer
from pairuni.chat.responses import why_no_answer
from pairuni.io.journal import JournalFile
from pairuni.pairug.jsonl import dump

logger = logging.getLogger("pairuni")


class AnswerStore:
    """A file of {"key", "answer"} lines, of which only the offsets stay in memory. Safe between threads.

    Each line is written before the answer is used, so that it survives a kill of the process. An incomplete last
    line is cut off by the next write; other unreadable lines are skipped with a warning. ``with store:`` locks out
    other writers and closes the file.

    Tokens spent without an answer have separate lines, {"spent": [sent, received]}. A stored reply that is not an
    answer, such as an empty one of an earlier version, only counts as tokens; its request is sent again.
    """

    prompt_tokens: int
    completion_tokens: int
    left_out: Counter[str]
    """Parameters that servers refused -> answers given without them."""
    _charged: tuple[int, int]
    over_limit: int
    """Answers for which servers used more tokens than allowed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._file = JournalFile(path)
        self._load()

    def __enter__(self) -> Self:
        """Raises ValueError when another process writes to this file."""
        self._file.lock("another build writes its answers here; wait for it to end")
        if self._file.size != self._file.end:
            self._load()
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def get(self, key: str) -> Answer | None:
        """The answer of this key, or None."""
        place = self._places.get(key)
        if place is None:
            return None
        answer: Answer = json.loads(self._file.read(*place))["answer"]
        return answer

    def put(self, key: str, answer: Answer) -> Answer:
        """Store an answer unless the key has one, and return the stored one."""
        line = dump({"key": key, "answer": answer}).encode() + b"\n"
        with self._lock:
            if key not in self._places:
                self._index(key, answer, self._file.append(line), len(line))
                return answer
        kept = self.get(key)
        assert kept is not None
        return kept

    def charge(self, prompt_tokens: int, completion_tokens: int) -> None:
        """Store tokens that were spent without an answer."""
        if not prompt_tokens and not completion_tokens:
            return
        line = dump({"spent": [prompt_tokens, completion_tokens]}).encode() + b"\n"
        with self._lock:
            self._file.append(line)
            self._charge(prompt_tokens, completion_tokens)

    def absorb(self, part: Path) -> None:
        """Move the answers of another file into this one, if that file exists."""
        if not part.exists():
            return
        with AnswerStore(part) as other:
            for key in other._places:
                answer = other.get(key)
                assert answer is not None
                self.put(key, answer)
            self.charge(*other._charged)
        self._file.sync()
        part.unlink()

    def close(self) -> None:
        self._file.close()

    def _index(self, key: str, answer: Answer, start: int, length: int) -> None:
        spent = int(answer.get("prompt_tokens") or 0), int(answer.get("completion_tokens") or 0)
        if {"text", "finish"} <= answer.keys() and why_no_answer(answer):
            self._charge(*spent)
            return
        self._places[key] = (start, length)
        self.prompt_tokens += spent[0]
        self.completion_tokens += spent[1]
        self.left_out.update(map(str, answer.get("unset") or ()))
        self.over_limit += bool(answer.get("over_limit"))

    def _charge(self, prompt_tokens: int, completion_tokens: int) -> None:
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens
        self._charged = (self._charged[0] + prompt_tokens, self._charged[1] + completion_tokens)

    def _load(self) -> None:
        """Index every complete line."""
        self.prompt_tokens = self.completion_tokens = self.over_limit = 0
        self.left_out = Counter()
        self._charged = (0, 0)
        self._places: dict[str, tuple[int, int]] = {}
        for number, start, line in self._file.lines():
            try:
                row = json.loads(line)
                if "spent" in row:
                    sent, received = row["spent"]
                    self._charge(int(sent), int(received))
                elif row["key"] not in self._places:
                    self._index(row["key"], row["answer"], start, len(line))
            except (ValueError, KeyError, TypeError, AttributeError):
                logger.warning("%s, line %d: not a readable answer; skipped", self.path, number)


class PartStore(AnswerStore):
    """A worker's own file of answers, on top of a store that it only reads."""

    def __init__(self, path: Path, known: AnswerStore) -> None:
        super().__init__(path)
        self._known = known

    def __contains__(self, key: str) -> bool:
        return super().__contains__(key) or key in self._known

    def get(self, key: str) -> Answer | None:
        """The answer of this key in either, or None."""
        own = super().get(key)
        return self._known.get(key) if own is None else own

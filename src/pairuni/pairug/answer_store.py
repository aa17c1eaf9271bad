"""Answers by the key of what was asked, in a file that only grows: what is there is never asked for again."""

from __future__ import annotations

import json
import logging
import os
import threading
from pathlib import Path
from typing import Any

from pairuni.pairug.jsonl import dump

logger = logging.getLogger("pairuni")

Answer = dict[str, Any]
"""What came back, as JSON. A model's has text, finish, refusal, id, prompt_tokens and completion_tokens."""


class AnswerStore:
    """A file of {"key", "answer"} lines; only where each line is stays in memory. Safe between threads.

    A line is written at once, in one piece, before anybody sees the answer: it outlives the process. What a
    kill left of a last line is cut off, any other line that cannot be read is passed over with a warning.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self._places: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._end = self._load()
        os.ftruncate(self._file, self._end)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def get(self, key: str) -> Answer | None:
        """The answer of this key; None when there is none yet."""
        place = self._places.get(key)
        if place is None:
            return None
        answer: Answer = json.loads(os.pread(self._file, place[1], place[0]))["answer"]
        return answer

    def put(self, key: str, answer: Answer) -> Answer:
        """Write an answer down and return the one that holds from now on: the first of its key."""
        line = dump({"key": key, "answer": answer}).encode() + b"\n"
        with self._lock:
            if key not in self._places:
                self._append(line)
                self._enter(key, answer, self._end, len(line))
                self._end += len(line)
                return answer
        kept = self.get(key)
        assert kept is not None
        return kept

    def close(self) -> None:
        os.close(self._file)

    def discard(self) -> None:
        """Remove the file: what it was for is done."""
        self.close()
        self.path.unlink(missing_ok=True)

    def _append(self, line: bytes) -> None:
        try:
            written = 0
            while written < len(line):
                written += os.write(self._file, line[written:])
        except OSError as error:
            os.ftruncate(self._file, self._end)
            raise OSError(error.errno, error.strerror, str(self.path)) from None

    def _enter(self, key: str, answer: Answer, start: int, length: int) -> None:
        self._places[key] = (start, length)
        self.prompt_tokens += int(answer.get("prompt_tokens") or 0)
        self.completion_tokens += int(answer.get("completion_tokens") or 0)

    def _load(self) -> int:
        """Enter every whole line; returns the length of the whole lines."""
        end = 0
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.endswith(b"\n"):
                    break
                try:
                    row = json.loads(line)
                    if row["key"] not in self._places:
                        self._enter(row["key"], row["answer"], end, len(line))
                except (ValueError, KeyError, TypeError, AttributeError):
                    logger.warning(
                        "%s, line %d: not an answer that can be read; passed over", self.path, number
                    )
                end += len(line)
        return end

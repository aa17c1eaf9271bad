"""Outcomes as they arrive, so that a build that was killed does not ask for them again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pairuni.pairug.jsonl import dump


def key_of(values: Any) -> str:
    """A short digest of JSON-like values."""
    return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=16).hexdigest()


class Journal:
    """Outcomes by key in a file that only grows; ``context`` is whatever else they depend on.

    A journal of another context is begun anew; a last line that was cut off is forgotten.
    """

    def __init__(self, path: Path, context: Any) -> None:
        self.path = path
        self._outcomes: dict[str, Any] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        head = dump({"context": key_of(context)}).encode() + b"\n"
        whole = self._load(head)
        with path.open("r+b" if whole else "wb") as file:
            file.write(head)
            file.truncate(max(whole, len(head)))

    def get(self, key: str) -> Any | None:
        """The outcome of this key; None when there is none yet."""
        return self._outcomes.get(key)

    def put(self, key: str, outcome: Any) -> None:
        """Write an outcome down; it outlives the process from here on."""
        with self.path.open("ab") as file:
            file.write(dump({"key": key, "outcome": outcome}).encode() + b"\n")
        self._outcomes[key] = outcome

    def discard(self) -> None:
        """Remove the file: what it was for is done."""
        self.path.unlink(missing_ok=True)

    def _load(self, head: bytes) -> int:
        """Read the outcomes of a file that begins with ``head`` and return the length of its whole lines."""
        if not self.path.is_file():
            return 0
        lines = self.path.read_bytes().splitlines(keepends=True)
        if not lines or lines[0] != head:
            return 0
        whole = len(head)
        for line in lines[1:]:
            if not line.endswith(b"\n"):
                break
            entry = json.loads(line)
            self._outcomes[entry["key"]] = entry["outcome"]
            whole += len(line)
        return whole

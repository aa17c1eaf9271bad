"""OpenAI Batch files: requests out, results in, one round at a time. The user submits them."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pairuni.chat.dialect import Dialect, Refusal
from pairuni.chat.quoting import one_line
from pairuni.chat.request import RequestFailed
from pairuni.chat.responses import EmbeddedError, ErrorDetails, NoAnswer, error_details, parse_completion
from pairuni.config import CompletionSettings
from pairuni.io.files import atomic_write
from pairuni.io.images import ImageError
from pairuni.pairug.completion.answer_store import AnswerStore
from pairuni.pairug.completion.costs import Budget, CompletionPaused
from pairuni.pairug.completion.requests import Request
from pairuni.pairug.jsonl import Problem, dump, iter_objects

URL = "/v1/chat/completions"
MOST_REQUESTS = 50_000
MOST_BYTES = 190_000_000
"""OpenAI accepts 50,000 requests and 200 MB per file."""
MOST_ERRORS = 3
"""Batches that return an error for a request before its sample fails."""

_CUSTOM_ID = re.compile(rb'\{"custom_id": "([0-9a-f]+)"')
_TEMPERATURE = b'"temperature":'  # within a text the quotes would be escaped
_LONGEST_END = 8192
"""Bytes at the end of a line that hold the parameters, which follow the messages."""


class BatchFiles:
    """A folder of requests-001.jsonl, ... that are written here, and results in any other *.jsonl.

    The user puts the downloaded result and error files of a batch into the folder.
    """

    def __init__(self, folder: Path, settings: CompletionSettings, budget: Budget) -> None:
        self.folder = folder
        self._budget = budget
        self._settings = settings
        self._dialect = Dialect("schema" if settings.structured == "auto" else settings.structured)
        self._refusals: dict[Refusal, None] = {}
        self._without_temperature: set[str] = set()
        self._written: Counter[str] = Counter()
        self._files: dict[str, Path] = {}
        self._errors: defaultdict[str, dict[str, str]] = defaultdict(dict)
        self._expired: defaultdict[str, set[str]] = defaultdict(set)
        self._new = 0
        for path in sorted(folder.glob("requests-*.jsonl")):
            for key, temperature in _requests_in(path):
                self._written[key] += 1
                self._files[key] = path
                if settings.temperature is not None and not temperature:
                    self._without_temperature.add(key)

    def read_results(self, store: AnswerStore) -> None:
        """Store every answer of the results. Raises ValueError naming file and line of an invalid result."""
        for path in sorted(self.folder.glob("*.jsonl")):
            if path.name.startswith("requests"):
                continue
            for number, row in iter_objects(path):
                if isinstance(row, Problem):
                    raise ValueError(f"{row}; download the results again")
                key = row.get("custom_id")
                if not isinstance(key, str) or not {"response", "error"} & row.keys():
                    raise ValueError(f"{path}, line {number}: not a result of a batch")
                if key in self._written and key not in store:
                    self._read_result(key, str(row.get("id") or f"{path.name}:{number}"), row, store)

    def ask_all(self, requests: Sequence[Request]) -> list[RequestFailed | ImageError | None]:
        """Fails requests that returned an error too often; if there are none, writes the others and pauses.

        Raises CompletionPaused, which says what to submit, or that the budget is used up.
        """
        failed: list[RequestFailed | ImageError | None] = [self._given_up(one.key) for one in requests]
        if any(failed):
            return failed
        waiting = {one.key for one in requests if self._written[one.key] > self._back(one.key)}
        reserved: list[Request] = []
        try:
            for one in sorted(requests, key=lambda one: one.key not in waiting):
                self._budget.reserve(one)
                reserved.append(one)
        except CompletionPaused:
            if not waiting and not reserved:
                raise
        new = [one for one in reserved if one.key not in waiting]
        broken = self._write(new)
        if broken:
            for one in reserved:
                self._budget.release(one)
            return [broken.get(one.key) for one in requests]
        waiting |= {one.key for one in new}
        names = sorted({self._files[key].name for key in waiting})
        back = [reason for one in new for reason in list(self._errors[one.key].values())[-1:]]
        told = f"; {len(back):,} of them came back without an answer, the last: {back[-1]}" if back else ""
        raise CompletionPaused(
            f"{self._new:,} new requests written, {len(waiting) - self._new:,} still without a result; submit "
            f"{', '.join(names)} of {self.folder} as batches for {URL} unless you already did, put their result "
            f"and error files into the same folder and run the same command to continue{told}"
        )

    def _back(self, key: str) -> int:
        """How often a request came back without an answer; copies of an error file count once."""
        return len(self._errors[key]) + len(self._expired[key])

    def _given_up(self, key: str) -> RequestFailed | None:
        errors = list(self._errors[key].values())
        if len(errors) < MOST_ERRORS:
            return None
        return RequestFailed(f"came back as an error from {len(errors)} batches, the last: {errors[-1]}")

    def _read_result(self, key: str, result: str, row: dict[str, Any], store: AnswerStore) -> None:
        """result: the id of the row, which identifies copies of it."""
        response = row.get("response") or {}
        try:
            if response.get("status_code") == 200:
                answer = parse_completion(response.get("body"))
                if key in self._without_temperature:
                    answer["unset"] = ["temperature"]
                store.put(key, answer)
                return
            error = error_details(
                {"error": row.get("error") or (response.get("body") or {}).get("error") or response}
            )
        except NoAnswer as fault:
            self._errors[key][result] = f"its result holds {fault}"
            return
        except EmbeddedError as fault:
            error = fault.error
        except (ValueError, AttributeError) as fault:
            error = ErrorDetails(one_line(str(fault)))
        if error.code == "batch_expired":  # the request was not processed
            self._expired[key].add(result)
            return
        self._errors[key][result] = error.message
        self._refusals[Refusal(error.message, error.parameter)] = None

    def _write(self, requests: Sequence[Request]) -> dict[str, ImageError]:
        """Write requests to as many files as the limits require; returns the images that cannot be sent, by key."""
        broken: dict[str, ImageError] = {}
        rest = list(reversed(requests))
        numbers = (path.stem.partition("-")[2] for path in self.folder.glob("requests-*.jsonl"))
        number = max((int(text) for text in numbers if text.isdigit()), default=0)
        while rest:
            number += 1
            path = self.folder / f"requests-{number:03d}.jsonl"
            with atomic_write(path) as temporary, temporary.open("wb") as file:
                count = size = 0
                while rest and count < MOST_REQUESTS:
                    request = rest[-1]
                    try:
                        line = self._line(request)
                    except ImageError as error:
                        broken[request.key] = error
                        rest.pop()
                        continue
                    if count and size + len(line) > MOST_BYTES:
                        break
                    file.write(line)
                    rest.pop()
                    self._files[request.key] = path
                    self._written[request.key] += 1
                    count, size = count + 1, size + len(line)
                self._new += count
            if not count:
                path.unlink()
        return broken

    def _line(self, request: Request) -> bytes:
        dialect = self._dialect
        for refusal in self._refusals:
            fixed = self._settings.structured != "auto"
            dialect = dialect.after(refusal, request, fixed=fixed, named_only=True) or dialect
        if dialect.left_out(request):
            self._without_temperature.add(request.key)
        body = dialect.body(request)
        return dump({"custom_id": request.key, "method": "POST", "url": URL, "body": body}).encode() + b"\n"


def _requests_in(path: Path) -> Iterator[tuple[str, bool]]:
    """(id, whether a temperature is set) of each request in a file, without parsing its images as JSON."""
    with path.open("rb") as lines:
        for line in lines:
            if match := _CUSTOM_ID.match(line):
                yield match[1].decode(), _TEMPERATURE in line[-_LONGEST_END:]

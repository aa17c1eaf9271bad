"""A reward that another process computes, on another GPU or machine: the client of ``pairuni serve-reward``."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from threading import Event
from typing import Any
from urllib.parse import urlsplit

from pairuni.config import RemoteSettings, RewardSettings
from pairuni.records import Annotation
from pairuni.rewards.checked import RewardError, describe
from pairuni.rewards.threads import at_once
from pairuni.rewards.wire import Sample, bounds_from_json, pack

LONGEST_BACKOFF = 30.0
_LONGEST_QUOTE = 500


class RemoteError(RuntimeError):
    """The server did not do what was asked."""


class _Lost(Exception):
    """A request without an answer, which may have one when it is sent again."""


@dataclass(frozen=True)
class _Chunk:
    """Samples of one request."""

    records: Sequence[Annotation]
    samples: Sequence[Sample]


class RemoteReward:
    """The scores of a reward server. A batch is cut into requests, several in flight at once.

    What may pass (no connection, no answer in time, a 5xx) is sent again with growing pauses; what the server refuses
    (a 4xx) is not. No proxy is used and no redirection followed.
    """

    name = "remote"

    def __init__(self, settings: RemoteSettings, *, backoff: float = 1.0) -> None:
        """Asks the server what it is; backoff: seconds before a lost request is repeated first.

        Raises ValueError for a url that is none, and RemoteError when no reward server answers there.
        """
        self._settings = settings
        self._secure, self._address, self._path = _place(settings.url)
        self._backoff = backoff
        token = os.environ.get(settings.token_variable, "").strip()
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            health = self._ask("GET", "/health", None, Event())
        except RemoteError as error:
            raise RemoteError(f"reward {self.name!r}: {error}; pairuni serve-reward runs a server") from None
        try:
            self.served = str(health["name"])
            self.range = bounds_from_json(health["range"])
            self.needs = tuple(map(str, health["needs"]))
        except (KeyError, TypeError, ValueError) as error:
            raise RemoteError(
                f"reward {self.name!r}: {settings.url} is no reward server (its /health lacks {error})"
            ) from None

    @classmethod
    def from_settings(cls, settings: RewardSettings) -> RemoteReward:
        """The reward of ``settings.remote``."""
        return cls(settings.remote)

    def __call__(self, records: Sequence[Annotation], samples: Sequence[Sample]) -> list[float]:
        """One score a sample. Raises RewardError naming the sample, or the first of the request that failed."""
        size = self._settings.batch_size
        chunks = [
            _Chunk(records[start : start + size], samples[start : start + size])
            for start in range(0, len(samples), size)
        ]
        stopping = Event()
        scored = at_once(
            lambda chunk: self._score(chunk, stopping), chunks, self._settings.concurrency, stopping
        )
        return [score for scores in scored for score in scores]

    def _score(self, chunk: _Chunk, stopping: Event) -> list[float]:
        try:
            said = self._ask("POST", "/score", pack(chunk.records, chunk.samples), stopping)
            scores = said.get("scores")
            if not isinstance(scores, list) or len(scores) != len(chunk.samples):
                raise RemoteError(f"{self._settings.url} gave no list of {len(chunk.samples)} scores")
        except (RemoteError, ValueError) as error:
            count = len(chunk.samples)
            where = (
                describe(chunk.records[0])
                if count == 1
                else f"{count} samples from {describe(chunk.records[0])}"
            )
            raise RewardError(f"reward {self.name!r} ({self.served}) failed on {where}: {error}") from None
        return scores

    def _ask(self, method: str, path: str, body: bytes | None, stopping: Event) -> dict[str, Any]:
        """The JSON object that the server replies with. Raises RemoteError."""
        attempts = self._settings.max_retries + 1
        for attempt in range(attempts):
            try:
                return self._ask_once(method, path, body)
            except _Lost as error:
                reason = str(error)
            wait = min(LONGEST_BACKOFF, self._backoff * 2**attempt) * random.uniform(0.5, 1.0)
            if attempt + 1 < attempts and stopping.wait(wait):
                raise RemoteError("stopped")
        raise RemoteError(f"{self._settings.url} gave no answer in {attempts} attempts, the last: {reason}")

    def _ask_once(self, method: str, path: str, body: bytes | None) -> dict[str, Any]:
        kind = HTTPSConnection if self._secure else HTTPConnection
        host, port = self._address
        connection = kind(host, port, timeout=self._settings.timeout)
        try:
            connection.request(
                method, self._path + path, body, {"Content-Type": "application/json", **self._headers}
            )
            response = connection.getresponse()
            status, text = response.status, response.read()
        except TimeoutError:
            raise _Lost(f"no answer within {self._settings.timeout:g} seconds") from None
        except (OSError, HTTPException) as error:
            raise _Lost(f"the connection broke ({error or type(error).__name__})") from None
        finally:
            connection.close()
        if status >= 500:
            raise _Lost(f"it says {status}: {_error_in(text)}")
        if status in (401, 403):
            variable = self._settings.token_variable
            raise RemoteError(
                f"{self._settings.url} says {status}; is the token in the environment variable {variable} its own?"
            )
        if status != 200:
            raise RemoteError(f"{self._settings.url} says {status}: {_error_in(text)}")
        try:
            said = json.loads(text)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            raise RemoteError(
                f"{self._settings.url} is no reward server: it does not answer with a JSON object"
            )
        return said


def _place(url: str) -> tuple[bool, tuple[str, int | None], str]:
    """(whether by TLS, host and port, path) of a server."""
    wrong = ValueError(
        f"reward.remote.url{'' if '@' in url or '?' in url else f' is {url!r}, but'} must be like "
        "http://localhost:8100, without a user or a query; "
        "pairuni serve-reward runs such a server"
    )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # no address of IPv6, or no port
        raise wrong from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
        raise wrong
    return parts.scheme == "https", (parts.hostname, port), parts.path.rstrip("/")


def _error_in(body: bytes) -> str:
    text = body.decode(errors="replace")
    try:
        said = json.loads(text)
        text = str(said["error"])
    except (ValueError, KeyError, TypeError):
        pass
    text = " ".join(text.split())
    half = _LONGEST_QUOTE // 2  # a reward's sentence names the record first and the reason last
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:half]} ... {text[-half:]}"

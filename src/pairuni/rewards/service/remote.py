"""A reward that another process computes, on another GPU or machine: the client of ``pairuni serve-reward``."""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Event
from typing import Any
from urllib.parse import urlsplit

import httpx2

from pairuni.chat.endpoint import retry_after
from pairuni.chat.secrets import redact
from pairuni.config import RemoteSettings, RewardSettings
from pairuni.io.threads import thread_map
from pairuni.records import Annotation
from pairuni.rewards.checked import RewardError, describe
from pairuni.rewards.service.token import token_from_environment
from pairuni.rewards.service.wire import Sample, bounds_from_json, pack, shortened

LONGEST_BACKOFF = 30.0
LONGEST_BUSY = 900.0
"""Seconds for which a server may go on saying that it is busy; meanwhile that costs no attempt."""
MOST_REPLY_BYTES = 1 << 26
"""Longest reply that is read."""


class RemoteError(RuntimeError):
    """The server did not do what was asked."""


class _Lost(Exception):
    """A request without an answer, which may have one when it is sent again.

    wait: seconds after which a busy server wants to be asked again.
    """

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True)
class _Chunk:
    """Samples of one request."""

    records: Sequence[Annotation]
    samples: Sequence[Sample]


class RemoteReward:
    """The scores of a reward server. A batch is cut into requests, several in flight at once.

    What may pass (no connection, no answer in time, a 5xx) is sent again with growing pauses; what the server refuses
    (a 4xx) is not. No proxy is used and no redirection followed. Whatever the server says is cleared of the token.
    """

    name = "remote"

    def __init__(self, settings: RemoteSettings, *, backoff: float = 1.0) -> None:
        """Asks the server what it is; backoff: seconds before a lost request is repeated first.

        Raises ValueError for a url or a token that cannot be one, and RemoteError when no reward server answers there.
        """
        self._settings = settings
        self._backoff = backoff
        self._token = token_from_environment(settings.token_variable)
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        self._client = httpx2.Client(
            base_url=_checked_url(settings.url),
            headers=headers,
            timeout=settings.timeout,
            trust_env=False,
            # a connection a request: one that idles could be closed by the server just as it is used again
            limits=httpx2.Limits(max_keepalive_connections=0),
        )
        try:
            health = self._ask("GET", "/health", None, Event())
        except RemoteError as error:
            raise RemoteError(f"reward {self.name!r}: {error}; pairuni serve-reward runs a server") from None
        try:
            self.served = self._text(health["name"])
            self.range = bounds_from_json(health["range"])
            self.needs = tuple(self._text(key) for key in list(health["needs"]))
        except KeyError as error:
            raise RemoteError(
                f"reward {self.name!r}: {settings.url} is no reward server (its /health lacks {error})"
            ) from None
        except (TypeError, ValueError) as error:
            raise RemoteError(
                f"reward {self.name!r}: {settings.url} is no reward server (its /health: {self._clear(error)})"
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
        scored = thread_map(
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
        busy_until = time.monotonic() + LONGEST_BUSY
        attempt = 0
        while True:
            try:
                return self._ask_once(method, path, body)
            except _Lost as error:
                lost = error
            wait = min(LONGEST_BACKOFF, self._backoff * 2**attempt) * random.uniform(0.5, 1.0)
            if lost.wait is None or time.monotonic() > busy_until:
                attempt += 1
            else:
                wait = min(LONGEST_BACKOFF, lost.wait) + self._backoff * random.uniform(0.0, 1.0)
            if attempt == attempts:
                raise RemoteError(
                    f"{self._settings.url} gave no answer in {attempts} attempts, the last: {lost}"
                )
            if stopping.wait(wait):
                raise RemoteError("stopped")

    def _ask_once(self, method: str, path: str, body: bytes | None) -> dict[str, Any]:
        status, headers, text = self._exchange(method, path, body)
        url = self._settings.url
        if status >= 500:
            wait = retry_after(headers) if status == 503 else None
            raise _Lost(f"it says {status}: {self._error_in(text)}", wait)
        if status in (401, 403):
            variable = self._settings.token_variable
            raise RemoteError(
                f"{url} says {status}; is the token in the environment variable {variable} its own?"
            )
        if status != 200:
            raise RemoteError(f"{url} says {status}: {self._error_in(text)}")
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict):
            raise RemoteError(f"{url} is no reward server: it does not answer with a JSON object")
        return said

    def _exchange(self, method: str, path: str, body: bytes | None) -> tuple[int, httpx2.Headers, bytes]:
        """Status, headers and body of a reply."""
        reply = bytearray()
        try:
            with self._client.stream(method, path, content=body) as response:
                for piece in response.iter_raw():
                    reply += piece
                    if len(reply) > MOST_REPLY_BYTES:
                        raise RemoteError(
                            f"{self._settings.url} is no reward server: its reply has more than "
                            f"{MOST_REPLY_BYTES:,} bytes"
                        )
                return response.status_code, response.headers, bytes(reply)
        except httpx2.TimeoutException:
            raise _Lost(f"no answer within {self._settings.timeout:g} seconds") from None
        except (httpx2.HTTPError, OSError) as error:
            reason = self._clear(error) or type(error).__name__
            raise _Lost(f"the connection broke ({reason})") from None

    def _error_in(self, body: bytes) -> str:
        text = body.decode(errors="replace")
        with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
            text = str(json.loads(text)["error"])
        return self._clear(text)

    def _text(self, given: Any) -> str:
        if not isinstance(given, str):
            raise ValueError(f"{shortened(repr(given))} where a text is expected")
        return self._clear(given)

    def _clear(self, said: object) -> str:
        """One line of bounded length without the token."""
        return shortened(redact(str(said), self._token))


def _checked_url(url: str) -> str:
    """The URL of a server. Raises ValueError, which quotes none that may hold a secret."""
    wrong = ValueError(
        f"reward.remote.url{'' if '@' in url or '?' in url or '#' in url else f' is {url!r}, but'} must be like "
        "http://localhost:8100, without a user or a query; "
        "pairuni serve-reward runs such a server"
    )
    try:
        parts = urlsplit(url)
        _ = parts.port, httpx2.URL(url)
    except (ValueError, httpx2.InvalidURL):  # no address of IPv6, no port, no name of a host
        raise wrong from None
    if parts.scheme not in ("http", "https") or not parts.hostname or any(c in url for c in "?#@"):
        raise wrong
    return url.rstrip("/")

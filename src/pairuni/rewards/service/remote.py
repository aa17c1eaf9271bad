"""The reward remote: scores from a reward server on another GPU or machine (``pairuni serve-reward``)."""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Sequence
from threading import Event
from typing import Any
from urllib.parse import urlsplit

import httpx2

from pairuni.chat.faults import retry_after
from pairuni.chat.secrets import redact
from pairuni.config import RemoteSettings, RewardSettings
from pairuni.console.counts import counted
from pairuni.io.threads import thread_map
from pairuni.records import Annotation
from pairuni.rewards.checked import RewardError, describe
from pairuni.rewards.service.wire import Sample, bounds_from_json, pack, shortened, token_from_environment

MAX_BACKOFF = 30.0
MAX_BUSY = 900.0
"""Seconds for which a server may be busy without using up attempts."""
MAX_REPLY_BYTES = 1 << 26


class RemoteError(RuntimeError):
    """The server refused a request, or sent no valid reply."""


class _Lost(Exception):
    """A request without a reply, which is sent again.

    retry_after: seconds that a busy server asks to wait, or None.
    """

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class RemoteReward:
    """The scores of a reward server. A batch is split into requests, several of them in flight at once.

    Temporary failures (no connection, no reply in time, a 5xx) are retried with exponential backoff; refusals (a 4xx)
    are not. No proxy is used and no redirect followed. Messages of the server are shown without the token.
    """

    name = "remote"

    def __init__(self, settings: RemoteSettings, *, backoff: float = 1.0) -> None:
        """Requests the server's /health. backoff: seconds before the first retry.

        Raises ValueError for an invalid URL or token, and RemoteError if no reward server replies.
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
            # one connection per request: the server could close an idle connection just when it is used again
            limits=httpx2.Limits(max_keepalive_connections=0),
        )
        try:
            health = self._request("GET", "/health", None, Event())
        except RemoteError as error:
            raise RemoteError(f"reward {self.name!r}: {error}; pairuni serve-reward runs a server") from None
        try:
            self.served = self._text(health["name"])
            self.range = bounds_from_json(health["range"])
            self.needs = tuple(self._text(key) for key in list(health["needs"]))
        except (KeyError, TypeError, ValueError) as error:
            fault = (
                f"lacks {error}" if isinstance(error, KeyError) else f"is invalid: {self._redacted(error)}"
            )
            raise RemoteError(
                f"reward {self.name!r}: {settings.url} is not a reward server (its /health {fault})"
            ) from None

    @classmethod
    def from_settings(cls, settings: RewardSettings) -> RemoteReward:
        """The reward of ``settings.remote``."""
        return cls(settings.remote)

    def __call__(self, records: Sequence[Annotation], samples: Sequence[Sample]) -> list[float]:
        """One score per sample. Raises RewardError naming the sample, or the first one of the failed request."""
        size = self._settings.batch_size
        batches = [
            (records[start : start + size], samples[start : start + size])
            for start in range(0, len(samples), size)
        ]
        stopping = Event()
        scores = thread_map(
            lambda batch: self._score(*batch, stopping), batches, self._settings.concurrency, stopping
        )
        return [score for batch in scores for score in batch]

    def _score(
        self, records: Sequence[Annotation], samples: Sequence[Sample], stopping: Event
    ) -> list[float]:
        try:
            reply = self._request("POST", "/score", pack(records, samples), stopping)
            scores = reply.get("scores")
            if not isinstance(scores, list) or len(scores) != len(samples):
                raise RemoteError(f"{self._settings.url} sent no list of {len(samples)} scores")
        except (RemoteError, ValueError) as error:
            where = describe(records[0])
            if len(samples) > 1:
                where = f"{len(samples)} samples from {where}"
            raise RewardError(f"reward {self.name!r} ({self.served}) failed on {where}: {error}") from None
        return scores

    def _request(self, method: str, path: str, body: bytes | None, stopping: Event) -> dict[str, Any]:
        """The JSON object that the server replies with, after retries. Raises RemoteError."""
        attempts = self._settings.max_retries + 1
        busy_until = time.monotonic() + MAX_BUSY
        attempt = 0
        while True:
            try:
                return self._request_once(method, path, body)
            except _Lost as error:
                lost = error
            wait = min(MAX_BACKOFF, self._backoff * 2**attempt) * random.uniform(0.5, 1.0)
            if lost.retry_after is None or time.monotonic() > busy_until:
                attempt += 1
            else:
                wait = min(MAX_BACKOFF, lost.retry_after) + self._backoff * random.uniform(0.0, 1.0)
            if attempt == attempts:
                tries = counted(attempts, "attempt")
                raise RemoteError(f"{self._settings.url} sent no reply in {tries}, the last: {lost}")
            if stopping.wait(wait):
                raise RemoteError("stopped")

    def _request_once(self, method: str, path: str, body: bytes | None) -> dict[str, Any]:
        status, headers, content = self._exchange(method, path, body)
        url = self._settings.url
        if status >= 500:
            wait = retry_after(headers) if status == 503 else None
            raise _Lost(f"status {status}: {self._error_in(content)}", wait)
        if status in (401, 403):
            variable = self._settings.token_variable
            raise RemoteError(f"{url} replied {status}; the token in {variable} must be that of the server")
        if status != 200:
            raise RemoteError(f"{url} replied {status}: {self._error_in(content)}")
        try:
            reply = json.loads(content)
        except (ValueError, RecursionError):
            reply = None
        if not isinstance(reply, dict):
            raise RemoteError(f"{url} is not a reward server: its reply is not a JSON object")
        return reply

    def _exchange(self, method: str, path: str, body: bytes | None) -> tuple[int, httpx2.Headers, bytes]:
        """Status, headers and body of a reply."""
        reply = bytearray()
        try:
            with self._client.stream(method, path, content=body) as response:
                for piece in response.iter_raw():
                    reply += piece
                    if len(reply) > MAX_REPLY_BYTES:
                        raise RemoteError(
                            f"{self._settings.url} is not a reward server: its reply has more than "
                            f"{MAX_REPLY_BYTES:,} bytes"
                        )
                return response.status_code, response.headers, bytes(reply)
        except httpx2.TimeoutException:
            raise _Lost(f"no reply within {self._settings.timeout:g} seconds") from None
        except (httpx2.HTTPError, OSError) as error:
            reason = self._redacted(error) or type(error).__name__
            raise _Lost(f"the connection broke ({reason})") from None

    def _error_in(self, body: bytes) -> str:
        text = body.decode(errors="replace")
        with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
            text = str(json.loads(text)["error"])
        return self._redacted(text)

    def _text(self, value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError(f"{shortened(repr(value))} is not a string")
        return self._redacted(value)

    def _redacted(self, message: object) -> str:
        """One line of bounded length without the token."""
        return shortened(redact(str(message), self._token))


def _checked_url(url: str) -> str:
    """The URL of a server. Raises ValueError, which quotes no URL that may contain a secret."""
    shown = "" if any(c in url for c in "@?#") else f" is {url!r}, but"
    invalid = ValueError(
        f"reward.remote.url{shown} must be like http://localhost:8100, without a user or a query; "
        "pairuni serve-reward runs such a server"
    )
    try:
        parts = urlsplit(url)
        _ = parts.port, httpx2.URL(url)
    except (ValueError, httpx2.InvalidURL):
        raise invalid from None
    if parts.scheme not in ("http", "https") or not parts.hostname or any(c in url for c in "?#@"):
        raise invalid
    return url.rstrip("/")

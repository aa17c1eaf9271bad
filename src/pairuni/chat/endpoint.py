"""Client of any OpenAI-compatible chat endpoint, with retries, rate limits and adaptation to the server."""

from __future__ import annotations

import json
import logging
import math
import os
import random
import threading
import time
from dataclasses import replace

from pairuni import __version__
from pairuni.chat.address import Address, key_from_environment
from pairuni.chat.dialect import Dialect
from pairuni.chat.faults import Fault, ResponseReader
from pairuni.chat.quoting import one_line
from pairuni.chat.request import Answer, ChatRequest, FailureStreak, RequestFailed, RequestsStopped, Stopping
from pairuni.chat.responses import MOST_BYTES
from pairuni.chat.secrets import redact
from pairuni.chat.throttle import Throttle
from pairuni.chat.transport import HTTPTransport, TransportError
from pairuni.config import EndpointSettings
from pairuni.console.counts import counted

logger = logging.getLogger("pairuni")

LONGEST_BACKOFF = 60.0
TRIES_WITHOUT_ANSWER = 3
"""Number of completions without an answer after which a request fails."""
DEADLINE_OF_TIMEOUT = 5.0
"""Default of the deadline, in multiples of the timeout."""
LOGGED_WAIT = 5.0
"""Seconds; waits of at least this length are logged as warnings."""

_REDIRECTIONS = {301, 302, 303, 307, 308}
_MOST_REDIRECTIONS = 3


class Endpoint:
    """Sends requests to one endpoint, from many threads. The key comes from the environment and is never shown.

    The key is redacted from all that the server says, errors included. What the client learns about the server (its
    address, the parameters it accepts) applies to all later requests and is logged once.
    """

    def __init__(
        self, settings: EndpointSettings, *, section: str = "completion", backoff: float = 1.0
    ) -> None:
        """section: where the settings are, for messages; backoff: seconds before the first retry.

        Raises ValueError for invalid settings.
        """
        self._settings = settings
        self._section = section
        self._backoff = backoff
        self._key = key_from_environment(settings, section)
        self._lock = threading.Lock()
        self._throttle = Throttle()
        self._failures = FailureStreak()
        self._default = Dialect("schema" if settings.structured == "auto" else settings.structured)
        self._dialects: dict[str, Dialect] = {}
        self._over_limit: set[tuple[str, str]] = set()
        self._silent_until = -math.inf
        self._address = Address.of(settings)
        self._reader = ResponseReader(settings, section, self._redact)
        self._transport = HTTPTransport(
            _headers(self._key, self._address),
            timeout=settings.timeout,
            deadline=settings.deadline or DEADLINE_OF_TIMEOUT * settings.timeout,
            most_bytes=MOST_BYTES,
        )

    @property
    def url(self) -> str:
        """The address without secrets."""
        return self._redact(self._address)

    def __call__(self, request: ChatRequest, stopping: Stopping) -> Answer:
        """Send a request and return its answer.

        Raises RequestFailed when this request gets no answer, RequestsStopped when no request would get one, and
        the exception of an image that cannot be sent.
        """
        attempts = self._settings.max_retries + 1
        attempt = empty = 0
        spent = (0, 0)
        others = self._throttle.answers
        while True:
            tried = self._send(request, stopping)
            if not isinstance(tried, Fault):
                self._throttle.answered()
                self._failures.answered()
                tried["prompt_tokens"] += spent[0]
                tried["completion_tokens"] += spent[1]
                return tried
            if tried.then == "stop":
                raise RequestsStopped(tried.reason)
            if tried.spent is not None:
                spent = (spent[0] + tried.spent[0], spent[1] + tried.spent[1])
                empty += 1
                if empty == min(TRIES_WITHOUT_ANSWER, attempts):
                    reason = f"{self.url} sent {tried.reason}"
                    self._failures.failed(reason)
                    raise RequestFailed(reason, spent)
                continue
            if tried.then == "give up":
                raise RequestFailed(tried.reason, spent)
            # while a rate-limited endpoint answers other requests, this one does not use up its attempts
            before, others = others, self._throttle.answers
            if not tried.everybody or others == before:
                attempt += 1
            if attempt == attempts:
                tries = counted(attempts, "attempt")
                raise RequestFailed(f"{self.url} gave no answer in {tries}, the last: {tried.reason}", spent)
            self._pause(tried, attempt, stopping)

    def _send(self, request: ChatRequest, stopping: Stopping) -> Answer | Fault:
        """Send to the known address; if there is no endpoint there, try /v1."""
        address = self._address
        tried = self._send_in_dialect(request, address, stopping)
        other = address.versioned()
        if not isinstance(tried, Fault) or not tried.nowhere or other is None:
            return tried
        elsewhere = self._send_in_dialect(request, other, stopping)
        if isinstance(elsewhere, Fault) and elsewhere.nowhere:
            return tried
        self._moved(address, other)
        return elsewhere

    def _send_in_dialect(self, request: ChatRequest, address: Address, stopping: Stopping) -> Answer | Fault:
        """Send in the dialect known for the model; try others while it is unknown or refused."""
        with self._lock:
            known = self._dialects.get(request.model)
        start = dialect = known or self._default
        refused: set[Dialect] = set()
        first: Fault | None = None
        while True:
            with self._throttle.flight(stopping):
                tried = self._post(request, dialect, address)
            if not isinstance(tried, Fault):
                self._learn(request, start, dialect, known is None)
                return self._annotated(request, dialect, tried)
            if tried.refusal is None:
                return tried
            first = first or tried
            refused.add(dialect)
            other = dialect.after(
                tried.refusal,
                request,
                fixed=self._settings.structured != "auto",
                named_only=known is not None,
            )
            if other is None or other in refused:
                return first
            dialect = other

    def _learn(self, request: ChatRequest, start: Dialect, dialect: Dialect, unknown: bool) -> None:
        """Remember the dialect that worked; a request without a schema does not test formats."""
        with self._lock:
            if dialect == start:
                if unknown and request.schema is not None:
                    self._dialects.setdefault(request.model, dialect)
                return
            told = self._dialects.get(request.model) == dialect
            self._dialects[request.model] = dialect
        if not told:
            logger.warning(
                "%s at %s refuses requests with %s; they are now sent with %s",
                *(request.model, self.url, start, dialect),
            )

    def _annotated(self, request: ChatRequest, dialect: Dialect, answer: Answer) -> Answer:
        """The answer with notes on refused parameters and limits; an ignored limit is renamed from now on."""
        if left_out := dialect.left_out(request):
            answer["unset"] = left_out
        spent = answer["completion_tokens"]
        if spent <= request.max_tokens + 1:
            return answer
        answer["over_limit"] = True
        with self._lock:
            seen = (request.model, dialect.limit) in self._over_limit
            self._over_limit.add((request.model, dialect.limit))
            other = not seen and dialect.limit == "max_completion_tokens"
            if other:
                self._dialects[request.model] = replace(dialect, limit="max_tokens")
        if not seen:
            logger.warning(
                "%s at %s used %d tokens for a reply of at most %d: it ignores %s%s",
                *(request.model, self.url, spent, request.max_tokens, dialect.limit),
                "; requests are sent with max_tokens" if other else ", and costs may be higher than planned",
            )
        return answer

    def _post(self, request: ChatRequest, dialect: Dialect, address: Address) -> Answer | Fault:
        body = json.dumps(dialect.body(request)).encode()
        try:
            for _ in range(_MOST_REDIRECTIONS + 1):
                response = self._transport.post(address.url, body)
                if response.status not in _REDIRECTIONS:
                    return self._reader.read(response, address)
                location = response.headers.get("location", "")
                other = address.redirected(location)
                if other is None or other == address:
                    return self._reader.redirected(response.status, location, address)
                self._moved(address, other)
                address = other
        except TransportError as error:
            return Fault("retry", self._redact(one_line(str(error))))
        return Fault("stop", f"{self._redact(address)} redirects in a loop; check {self._section}.base_url")

    def _moved(self, address: Address, other: Address) -> None:
        with self._lock:
            if self._address != address:
                return
            self._address = other
        logger.warning(
            "%s answers at %s; set %s.base_url to it", *map(self._redact, (address, other)), self._section
        )

    def _pause(self, fault: Fault, attempt: int, stopping: Stopping) -> None:
        """Wait as the server demands, longer from attempt to attempt, with jitter."""
        wait = fault.wait
        if wait is None or attempt > 1:
            backoff = min(LONGEST_BACKOFF, self._backoff * 2 ** max(attempt - 1, 0))
            wait = max(wait or 0.0, backoff * random.uniform(0.5, 1.0))
        if fault.everybody:
            self._throttle.refused(wait)
        self._log_wait(fault, attempt, wait)
        if not fault.everybody and stopping.wait(wait):
            raise RequestsStopped("stopped")

    def _log_wait(self, fault: Fault, attempt: int, wait: float) -> None:
        """Log a wait and its end, once for all requests that wait for the same reason."""
        now = time.monotonic()
        with self._lock:
            silent = now < self._silent_until
            if not silent and wait >= LOGGED_WAIT:
                self._silent_until = now + wait
        until = time.strftime("%H:%M:%S", time.localtime(time.time() + wait))
        level = logging.WARNING if wait >= LOGGED_WAIT and not silent else logging.DEBUG
        if fault.everybody:
            logger.log(
                level,
                "%s limits its rate (refusal %d): no requests until %s, in %.0f s, then at most %d at once: %s",
                *(self.url, self._throttle.refusals, until, wait, self._throttle.most, fault.reason),
            )
        else:
            logger.log(
                level,
                "%s: retrying at %s, in %.0f s (attempt %d of %d): %s",
                *(self.url, until, wait, attempt + 1, self._settings.max_retries + 1, fault.reason),
            )

    def _redact(self, said: object) -> str:
        """The text without the key."""
        return redact(str(said), self._key)


def _headers(key: str, address: Address) -> dict[str, str]:
    headers = {"Authorization": f"Bearer {key}", "User-Agent": f"pairuni/{__version__}"}
    if address.is_azure:
        headers["api-key"] = key
    for name, variable in (
        ("OpenAI-Organization", "OPENAI_ORG_ID"),
        ("OpenAI-Project", "OPENAI_PROJECT_ID"),
    ):
        if value := os.environ.get(variable, "").strip():
            headers[name] = value
    return headers

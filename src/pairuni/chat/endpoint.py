"""Any OpenAI-compatible endpoint: chat completions with images, waiting and asking again as it demands."""

from __future__ import annotations

import json
import logging
import math
import os
import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Literal

from pairuni import __version__
from pairuni.chat.address import Address, check_secrets, key_from_environment
from pairuni.chat.dialect import Dialect, Refusal
from pairuni.chat.quoting import one_line
from pairuni.chat.request import Answer, ChatRequest, FailureStreak, RequestFailed, RequestsStopped, Stopping
from pairuni.chat.responses import (
    MOST_BYTES,
    EmbeddedError,
    ErrorDetails,
    MalformedResponse,
    NoAnswer,
    decode_body,
    html_title,
    is_html,
    parse_error,
    parse_response,
)
from pairuni.chat.secrets import redact, redact_url
from pairuni.chat.throttle import Throttle
from pairuni.chat.transport import HTTPTransport, Response, TransportError
from pairuni.config import EndpointSettings

__all__ = ["Dialect", "Endpoint", "check_secrets", "key_from_environment", "retry_after"]

logger = logging.getLogger("pairuni")

LONGEST_WAIT = 3600.0
"""Seconds of Retry-After that are waited for; an endpoint that wants more stops the run."""
LONGEST_BACKOFF = 60.0
TRIES_WITHOUT_ANSWER = 3
"""Times that one request may come back without an answer in it."""
DEADLINE_OF_TIMEOUT = 5.0
"""Seconds in all for one second without a byte, where no deadline is set."""
TOLD_WAIT = 5.0
"""Seconds; a longer wait is logged."""

_AGAIN = {408, 409, 425, 429}
_OTHER_WAY = {400, 404, 415, 422, 501}
_REDIRECTIONS = {301, 302, 303, 307, 308}
_MOST_REDIRECTIONS = 3


@dataclass(frozen=True)
class Fault:
    """Why a request has no answer, and what follows: ask again, give this sample up, or stop the run.

    wait: seconds that the server asked for. everybody: whether all requests shall wait. refusal: of a request that
    may be put another way. nowhere: nothing that answers is at this address. spent: tokens of a completion without an
    answer, sent and received.
    """

    then: Literal["again", "sample", "stop"]
    reason: str
    wait: float | None = None
    everybody: bool = False
    refusal: Refusal | None = None
    nowhere: bool = False
    spent: tuple[int, int] | None = None


class Endpoint:
    """Asks one endpoint from many threads. The key is read from the environment and never leaves this object.

    Whatever the server says, errors too, is cleared of the key before anybody sees it. What is learned of the server
    (its address, what it takes) holds for all later requests and is logged once.
    """

    def __init__(
        self, settings: EndpointSettings, *, section: str = "completion", backoff: float = 1.0
    ) -> None:
        """section: where the settings stand, for sentences; backoff: seconds before a first repetition.

        Raises ValueError for settings that cannot work.
        """
        self._settings = settings
        self._section = section
        self._backoff = backoff
        self._key = key_from_environment(settings, section)
        self._lock = threading.Lock()
        self._throttle = Throttle()
        self._row = FailureStreak()
        self._plain = Dialect("schema" if settings.structured == "auto" else settings.structured)
        self._known: dict[str, Dialect] = {}
        self._over_limit: set[tuple[str, str]] = set()
        self._told = -math.inf
        self._address = Address.of(settings)
        self._transport = HTTPTransport(
            _headers(self._key, self._address),
            timeout=settings.timeout,
            deadline=settings.deadline or DEADLINE_OF_TIMEOUT * settings.timeout,
            most_bytes=MOST_BYTES,
        )

    @property
    def url(self) -> str:
        """Where it is, as it may be shown."""
        return self._redact(self._address)

    def __call__(self, request: ChatRequest, stopping: Stopping) -> Answer:
        """The answer.

        Raises RequestFailed when this request gets no answer, RequestsStopped when none would, and whatever an image
        raises that cannot be sent.
        """
        attempts = self._settings.max_retries + 1
        attempt = empty = 0
        spent = (0, 0)
        others = self._throttle.answers
        while True:
            tried = self._somewhere(request, stopping)
            if not isinstance(tried, Fault):
                self._throttle.answered()
                self._row.answered()
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
                    self._row.failed(reason)
                    raise RequestFailed(reason, spent)
                continue
            if tried.then == "sample":
                raise RequestFailed(tried.reason, spent)
            # an endpoint that limits its rate and answers others meanwhile will come to this request too
            before, others = others, self._throttle.answers
            if not tried.everybody or others == before:
                attempt += 1
            if attempt == attempts:
                raise RequestFailed(f"no answer in {attempts} attempts, the last: {tried.reason}", spent)
            self._pause(tried, attempt, stopping)

    def _somewhere(self, request: ChatRequest, stopping: Stopping) -> Answer | Fault:
        """Ask where the endpoint is; where nothing is there, under /v1."""
        address = self._address
        tried = self._in_a_dialect(request, address, stopping)
        other = address.versioned()
        if not isinstance(tried, Fault) or not tried.nowhere or other is None:
            return tried
        elsewhere = self._in_a_dialect(request, other, stopping)
        if isinstance(elsewhere, Fault) and elsewhere.nowhere:
            return tried
        self._moved(address, other)
        return elsewhere

    def _in_a_dialect(self, request: ChatRequest, address: Address, stopping: Stopping) -> Answer | Fault:
        """Ask as the model is known to understand, and in other ways while that is unknown or refused."""
        with self._lock:
            known = self._known.get(request.model)
        start = dialect = known or self._plain
        refused: set[Dialect] = set()
        first: Fault | None = None
        while True:
            with self._throttle.flight(stopping):
                tried = self._ask(request, dialect, address)
            if not isinstance(tried, Fault):
                self._learn(request, start, dialect, known is None)
                return self._noted(request, dialect, tried)
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
        """Remember what the model understood; a request without a schema says nothing of formats."""
        with self._lock:
            if dialect == start:
                if unknown and request.schema is not None:
                    self._known.setdefault(request.model, dialect)
                return
            told = self._known.get(request.model) == dialect
            self._known[request.model] = dialect
        if not told:
            logger.warning(
                "%s at %s refuses to be asked with %s; it is asked with %s",
                *(request.model, self.url, start, dialect),
            )

    def _noted(self, request: ChatRequest, dialect: Dialect, answer: Answer) -> Answer:
        """The answer with what could not be asked; a limit that is ignored goes by its other name from now on."""
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
                self._known[request.model] = replace(dialect, limit="max_tokens")
        if not seen:
            logger.warning(
                "%s at %s spent %d tokens on a reply of at most %d: it does not keep to %s%s",
                *(request.model, self.url, spent, request.max_tokens, dialect.limit),
                "; it is asked with max_tokens" if other else ", and costs may be higher than planned",
            )
        return answer

    def _ask(self, request: ChatRequest, dialect: Dialect, address: Address) -> Answer | Fault:
        body = json.dumps(dialect.body(request)).encode()
        try:
            for _ in range(_MOST_REDIRECTIONS + 1):
                response = self._transport.post(address.url, body)
                if response.status not in _REDIRECTIONS:
                    return self._read(response, address)
                location = response.headers.get("location", "")
                other = address.redirected(location)
                if other is None or other == address:
                    return self._astray(response.status, location, address)
                self._moved(address, other)
                address = other
        except TransportError as error:
            return Fault("again", self._redact(one_line(str(error))))
        return Fault("stop", f"{self._redact(address)} redirects in a circle; check {self._section}.base_url")

    def _read(self, response: Response, address: Address) -> Answer | Fault:
        text = self._redact(decode_body(response.body, response.headers.get("content-type", "")))
        if not 200 <= response.status < 300:
            return self._refused(response.status, parse_error(text), response.headers, address)
        if is_html(text):
            title = f", whose title is {html_title(text)}," if html_title(text) else ""
            hint = "" if address.base.endswith("/v1") else f"; should {self._section}.base_url end in /v1?"
            return Fault(
                "stop",
                f"{self._redact(address)}{title} answers with a page of HTML, not as a chat endpoint{hint}",
                nowhere=True,
            )
        try:
            answer = parse_response(text)
        except EmbeddedError as error:
            return self._refused(error.status, error.error, response.headers, address, inside=True)
        except NoAnswer as error:
            return Fault("again", self._redact(error), spent=(error.prompt_tokens, error.completion_tokens))
        except MalformedResponse as error:
            return Fault("again", f"the answer is no chat completion ({self._redact(error)})")
        return {name: self._redact(said) if isinstance(said, str) else said for name, said in answer.items()}

    def _refused(
        self,
        status: int,
        error: ErrorDetails,
        headers: Mapping[str, str],
        address: Address,
        *,
        inside: bool = False,
    ) -> Fault:
        """inside: the error came as if it were an answer."""
        said = self._redact(error.message)
        how = f"200 with the error {error.code or error.kind or status}" if inside else str(status)
        reason = f"the endpoint says {self._redact(how)}{': ' + said if said else ''}"
        variable = self._settings.key_variable
        wait = retry_after(headers)
        refusal = Refusal(error.message, error.parameter) if status in _OTHER_WAY else None
        if status in (401, 403):
            return Fault(
                "stop", f"{reason}; is the key in the environment variable {variable} the right one?"
            )
        if status in (404, 405) and not _is_about_format(error):
            return Fault(
                "stop",
                f"{reason}; check {self._section}.base_url ({self._redact(address)}) and {self._section}.model",
                nowhere=True,
            )
        if status == 402 or (status == 429 and "insufficient_quota" in (error.code, error.kind)):
            return Fault("stop", f"{reason}; what is done is kept: go on when there is credit")
        if status in _AGAIN or (status >= 500 and status != 501):
            if wait is not None and wait > LONGEST_WAIT:
                return Fault("stop", f"{reason}; it wants {wait:.0f} seconds of rest: go on then")
            return Fault("again", reason, wait, everybody=status == 429)
        return Fault("sample", reason, refusal=refusal)

    def _astray(self, status: int, location: str, address: Address) -> Fault:
        """A redirection that is not followed: the key goes to no other host."""
        place = self._redact(redact_url(location)) or "nowhere"
        return Fault(
            "stop",
            f"{self._redact(address)} redirects ({status}) to {place}, which is not followed; if a chat endpoint is "
            f"there, set {self._section}.base_url to it",
        )

    def _moved(self, address: Address, other: Address) -> None:
        with self._lock:
            if self._address != address:
                return
            self._address = other
        logger.warning(
            "%s answers at %s; set %s.base_url to it", *map(self._redact, (address, other)), self._section
        )

    def _pause(self, fault: Fault, attempt: int, stopping: Stopping) -> None:
        """Wait as told, from the second time on ever longer, and not in step with other threads."""
        wait = fault.wait
        if wait is None or attempt > 1:
            backoff = min(LONGEST_BACKOFF, self._backoff * 2 ** max(attempt - 1, 0))
            wait = max(wait or 0.0, backoff * random.uniform(0.5, 1.0))
        if fault.everybody:
            self._throttle.refused(wait)
        self._tell(fault, attempt, wait)
        if not fault.everybody:
            _sleep(wait, stopping)

    def _tell(self, fault: Fault, attempt: int, wait: float) -> None:
        """Say that there is a wait and until when, once while it lasts: many requests wait for the same."""
        now = time.monotonic()
        with self._lock:
            told = now < self._told
            if not told and wait >= TOLD_WAIT:
                self._told = now + wait
        until = time.strftime("%H:%M:%S", time.localtime(time.time() + wait))
        level = logging.WARNING if wait >= TOLD_WAIT and not told else logging.DEBUG
        if fault.everybody:
            logger.log(
                level,
                "%s limits its rate (refusal %d): nobody asks until %s, in %.0f s, then at most %d at once: %s",
                *(self.url, self._throttle.refusals, until, wait, self._throttle.most, fault.reason),
            )
        else:
            logger.log(
                level,
                "%s: asking again at %s, in %.0f s (attempt %d of %d): %s",
                *(self.url, until, wait, attempt + 1, self._settings.max_retries + 1, fault.reason),
            )

    def _redact(self, said: object) -> str:
        """Without the key."""
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


def _is_about_format(error: ErrorDetails) -> bool:
    return any(name in error.parameter + error.message for name in ("response_format", "json_schema"))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait: retry-after-ms, or Retry-After in seconds or as a date; else None."""
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * scale
        except ValueError:
            continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    try:
        return max(0.0, parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def _sleep(seconds: float, stopping: Stopping) -> None:
    if stopping.wait(seconds):
        raise RequestsStopped("stopped")

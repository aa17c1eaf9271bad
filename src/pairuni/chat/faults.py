"""Classifies a response: an answer, or a fault and how to proceed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Literal

from pairuni.chat.address import Address
from pairuni.chat.dialect import Refusal
from pairuni.chat.request import Answer
from pairuni.chat.responses import (
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
from pairuni.chat.secrets import redact_url
from pairuni.chat.transport import Response
from pairuni.config import EndpointSettings

LONGEST_WAIT = 3600.0
"""Longest Retry-After in seconds that is waited for; after a longer one the run stops."""

_RETRY = {408, 409, 425, 429}
_OTHER_DIALECT = {400, 404, 415, 422, 501}


@dataclass(frozen=True)
class Fault:
    """Why a request has no answer, and what happens next: retry it, give it up, or stop the run.

    wait: seconds that the server demands. everybody: whether all requests must wait. refusal: of a request that may
    succeed in another dialect. nowhere: nothing at this address answers requests. spent: tokens, sent and received,
    of a completion without an answer.
    """

    then: Literal["retry", "give up", "stop"]
    reason: str
    wait: float | None = None
    everybody: bool = False
    refusal: Refusal | None = None
    nowhere: bool = False
    spent: tuple[int, int] | None = None


class ResponseReader:
    """Reads responses of one endpoint. Texts from the server are redacted before anything else sees them."""

    def __init__(self, settings: EndpointSettings, section: str, redact: Callable[[object], str]) -> None:
        """section: where the settings are, for messages. redact: removes the key from a text."""
        self._key_variable = settings.key_variable
        self._section = section
        self._redact = redact

    def read(self, response: Response, address: Address) -> Answer | Fault:
        """The answer in a response that is not a redirection, or the fault."""
        text = self._redact(decode_body(response.body, response.headers.get("content-type", "")))
        if not 200 <= response.status < 300:
            return self._refused(response.status, parse_error(text), response.headers, address)
        if is_html(text):
            title = f", whose title is {html_title(text)}," if html_title(text) else ""
            hint = "" if address.base.endswith("/v1") else f"; should {self._section}.base_url end in /v1?"
            return Fault(
                "stop",
                f"{self._redact(address)}{title} responds with an HTML page instead of a chat completion{hint}",
                nowhere=True,
            )
        try:
            answer = parse_response(text)
        except EmbeddedError as error:
            return self._refused(error.status, error.error, response.headers, address, embedded=True)
        except NoAnswer as error:
            return Fault("retry", self._redact(error), spent=(error.prompt_tokens, error.completion_tokens))
        except MalformedResponse as error:
            return Fault("retry", f"the answer is not a chat completion ({self._redact(error)})")
        return {name: self._redact(said) if isinstance(said, str) else said for name, said in answer.items()}

    def redirected(self, status: int, location: str, address: Address) -> Fault:
        """A redirection that is not followed, because the key must not go to another host."""
        place = self._redact(redact_url(location)) or "nowhere"
        return Fault(
            "stop",
            f"{self._redact(address)} redirects ({status}) to {place}, which is not followed; if a chat endpoint is "
            f"there, set {self._section}.base_url to it",
        )

    def _refused(
        self,
        status: int,
        error: ErrorDetails,
        headers: Mapping[str, str],
        address: Address,
        *,
        embedded: bool = False,
    ) -> Fault:
        """embedded: the error came with status 200."""
        said = self._redact(error.message)
        how = f"200 with the error {error.code or error.kind or status}" if embedded else str(status)
        reason = f"the endpoint says {self._redact(how)}{': ' + said if said else ''}"
        if status in (401, 403):
            return Fault(
                "stop",
                f"{reason}; is the key in the environment variable {self._key_variable} the right one?",
            )
        if status in (404, 405) and not _is_about_format(error):
            settings = f"{self._section}.base_url ({self._redact(address)}) and {self._section}.model"
            return Fault("stop", f"{reason}; check {settings}", nowhere=True)
        if status == 402 or (status == 429 and "insufficient_quota" in (error.code, error.kind)):
            return Fault("stop", f"{reason}; all answers are kept: resume when there is credit")
        if status in _RETRY or (status >= 500 and status != 501):
            wait = retry_after(headers)
            if wait is not None and wait > LONGEST_WAIT:
                return Fault("stop", f"{reason}; it demands a wait of {wait:.0f} seconds: resume after that")
            return Fault("retry", reason, wait, everybody=status == 429)
        refusal = Refusal(error.message, error.parameter) if status in _OTHER_DIALECT else None
        return Fault("give up", reason, refusal=refusal)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of retry-after-ms, or of Retry-After as a number or date; None without a valid one."""
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


def _is_about_format(error: ErrorDetails) -> bool:
    return any(name in error.parameter + error.message for name in ("response_format", "json_schema"))

"""Any OpenAI-compatible endpoint: chat completions with pictures, waiting and asking again as it demands."""

from __future__ import annotations

import base64
import json
import logging
import math
import os
import random
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Any, Literal
from urllib.parse import urlsplit

from pairuni.chat.replies import one_line
from pairuni.chat.request import (
    Answer,
    AskingFailed,
    AskingStopped,
    ChatRequest,
    Format,
    Sendable,
    Stopping,
)
from pairuni.chat.throttle import Throttle
from pairuni.config import EndpointSettings

logger = logging.getLogger("pairuni")

INSTALL = "pip install 'pairuni[openai]'"
LONGEST_WAIT = 3600.0
"""Seconds of Retry-After that are waited for; an endpoint that wants more stops the run."""
LONGEST_BACKOFF = 60.0
SHORTEST_SECRET = 8

_HIDDEN = "***"
_AGAIN = {408, 409, 425, 429}
_OTHER_FORMAT = {400, 404, 415, 422, 501}


@dataclass(frozen=True)
class Dialect:
    """How a server wants to be asked for JSON, and what it calls the longest reply."""

    format: Format = "schema"
    limit: Literal["max_completion_tokens", "max_tokens"] = "max_completion_tokens"

    def body(self, request: ChatRequest) -> dict[str, Any]:
        """The body of a chat completion, pictures as data URLs. Raises what a picture raises."""
        messages: list[dict[str, Any]] = []
        if request.system:
            messages.append({"role": "system", "content": request.system})
        messages.append({"role": "user", "content": [_part(one) for one in request.content]})
        body: dict[str, Any] = {
            "model": request.model,
            "messages": messages,
            self.limit: request.max_tokens,
        }
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.schema is None:
            return body
        if self.format == "schema":
            schema = {"name": request.name, "strict": True, "schema": request.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif self.format == "object":
            body["response_format"] = {"type": "json_object"}
        return body

    def after(self, refusal: str, request: ChatRequest, *, fixed: bool) -> Dialect | None:
        """What to try when the server refused this dialect; None when nothing is left. fixed: the format stays."""
        if self.limit in refusal and self.limit == "max_completion_tokens":
            return replace(self, limit="max_tokens")
        if fixed or self.format == "text" or request.schema is None:
            return None
        return replace(self, format="object" if self.format == "schema" else "text")


@dataclass(frozen=True)
class Fault:
    """Why a request has no answer, and what follows: ask again, give this sample up, or stop the run.

    wait: seconds that the server asked for. everybody: whether all requests shall wait.
    """

    then: Literal["again", "sample", "stop"]
    reason: str
    wait: float | None = None
    everybody: bool = False
    status: int = 0


class Endpoint:
    """Asks one endpoint from many threads. The key is read from the environment and never leaves this object.

    Whatever the server says, errors too, is cleared of the key before anybody sees it; the client's own
    exceptions, which hold the request, are not passed on.
    """

    def __init__(
        self, settings: EndpointSettings, *, section: str = "completion", backoff: float = 1.0
    ) -> None:
        """section: where the settings stand, for sentences; backoff: seconds before a first repetition.

        Raises ValueError for settings that cannot work, ImportError without the openai package.
        """
        try:
            import openai
        except ImportError:
            raise ImportError(f"asking an endpoint needs the openai client: {INSTALL}") from None
        self._openai = openai
        self._settings = settings
        self._section = section
        self._backoff = backoff
        self._key = key_from_environment(settings, section)
        self._lock = threading.Lock()
        self._throttle = Throttle()
        self._plain = Dialect("schema" if settings.structured == "auto" else settings.structured)
        self._known: dict[str, Dialect] = {}
        self._client = openai.OpenAI(
            api_key=self._key, base_url=settings.base_url, max_retries=0, timeout=settings.timeout
        )
        self.url = str(self._client.base_url)

    def __call__(self, request: ChatRequest, stopping: Stopping) -> Answer:
        """The answer.

        Raises AskingFailed when this request gets no answer, AskingStopped when none would, and whatever a picture
        raises that cannot be sent.
        """
        attempts = self._settings.max_retries + 1
        attempt = 0
        others = self._throttle.answers
        while True:
            tried = self._in_a_dialect(request, stopping)
            if not isinstance(tried, Fault):
                self._throttle.answered()
                return tried
            if tried.then == "stop":
                raise AskingStopped(tried.reason)
            if tried.then == "sample":
                raise AskingFailed(tried.reason)
            # an endpoint that limits its rate and answers others meanwhile will come to this request too
            before, others = others, self._throttle.answers
            if not tried.everybody or others == before:
                attempt += 1
            if attempt == attempts:
                raise AskingFailed(f"no answer in {attempts} attempts, the last: {tried.reason}")
            self._pause(tried, attempt, stopping)

    def _in_a_dialect(self, request: ChatRequest, stopping: Stopping) -> Answer | Fault:
        """Ask as the model is known to understand, and in simpler ways while that is unknown or refused."""
        with self._lock:
            known = self._known.get(request.model)
        dialect: Dialect | None = known or self._plain
        first: Fault | None = None
        while dialect is not None:
            with self._throttle.flight(stopping):
                tried = self._ask(request, dialect)
            if not isinstance(tried, Fault):
                self._learn(request, dialect)
                return tried
            if tried.status not in _OTHER_FORMAT or tried.then != "sample":
                return tried
            first = first or tried
            if known is not None and not self._is_about_format(tried.reason):
                break
            dialect = dialect.after(tried.reason, request, fixed=self._settings.structured != "auto")
        assert first is not None
        return first

    def _learn(self, request: ChatRequest, dialect: Dialect) -> None:
        """Remember what the model understood; a request without a schema says nothing of formats."""
        with self._lock:
            before = self._known.get(request.model, self._plain)
            if dialect != before:
                logger.warning(
                    "%s refuses JSON by %s with %s; asking for JSON by %s with %s",
                    *(request.model, before.format, before.limit, dialect.format, dialect.limit),
                )
            if dialect != before or request.schema is not None:
                self._known[request.model] = dialect

    def _ask(self, request: ChatRequest, dialect: Dialect) -> Answer | Fault:
        openai = self._openai
        body = dialect.body(request)
        try:
            raw = self._client.chat.completions.with_raw_response.create(**body)
            return self._read(raw.http_response.text, raw.headers)
        except openai.APIStatusError as error:
            return self._refused(error.status_code, error.response.text, error.response.headers)
        except openai.APITimeoutError:
            return Fault("again", f"no answer within {self._settings.timeout:g} seconds")
        except openai.APIConnectionError as error:
            return Fault(
                "again", f"the connection broke ({self._clear(one_line(str(error.__cause__ or error)))})"
            )
        except openai.OpenAIError as error:
            return Fault("sample", self._clear(error))

    def _read(self, text: str, headers: Mapping[str, str]) -> Answer | Fault:
        if "text/html" in headers.get("content-type", "") or text.lstrip()[:1] == "<":
            hint = (
                ""
                if self.url.rstrip("/").endswith("/v1")
                else f"; should {self._section}.base_url end in /v1?"
            )
            return Fault("stop", f"{self.url} answers with a page of HTML, not as a chat endpoint{hint}")
        try:
            answer = answer_from_body(json.loads(text))
        except ValueError as error:
            return Fault("again", f"the answer is no chat completion ({self._clear(error)})")
        return {name: self._clear(said) if isinstance(said, str) else said for name, said in answer.items()}

    def _refused(self, status: int, text: str, headers: Mapping[str, str]) -> Fault:
        said, code = _error_in(text)
        reason = self._clear(f"the endpoint says {status}{': ' + said if said else ''}")
        variable = self._settings.key_variable
        wait = retry_after(headers)
        if status in (401, 403):
            return Fault(
                "stop", f"{reason}; is the key in the environment variable {variable} the right one?"
            )
        if status == 404 and not self._is_about_format(said):
            return Fault(
                "stop",
                f"{reason}; check {self._section}.base_url ({self.url}) and {self._section}.model",
            )
        if status == 429 and code == "insufficient_quota":
            return Fault("stop", f"{reason}; what is done is kept: go on when there is credit")
        if status in _AGAIN or status >= 500:
            if wait is not None and wait > LONGEST_WAIT:
                return Fault("stop", f"{reason}; it wants {wait:.0f} seconds of rest: go on then")
            if status == 501:
                return Fault("sample", reason, status=status)
            return Fault("again", reason, wait, everybody=status == 429, status=status)
        return Fault("sample", reason, status=status)

    @staticmethod
    def _is_about_format(said: str) -> bool:
        return "response_format" in said or "json_schema" in said

    def _pause(self, fault: Fault, attempt: int, stopping: Stopping) -> None:
        """Wait as told, from the second time on ever longer, and not in step with other threads."""
        wait = fault.wait
        if wait is None or attempt > 1:
            backoff = min(LONGEST_BACKOFF, self._backoff * 2 ** max(attempt - 1, 0))
            wait = max(wait or 0.0, backoff * random.uniform(0.5, 1.0))
        logger.debug("asking again in %.1f s: %s", wait, fault.reason)
        if fault.everybody:
            self._throttle.refused(wait)
        else:
            _sleep(wait, stopping)

    def _clear(self, said: object) -> str:
        """Without the key. Too short a key is none that is secret, and may be a word of an answer."""
        text = str(said)
        return text.replace(self._key, _HIDDEN) if len(self._key) >= SHORTEST_SECRET else text


def _part(one: str | Sendable) -> dict[str, Any]:
    if isinstance(one, str):
        return {"type": "text", "text": one}
    mime, data = one.encoded()
    url = f"data:{mime};base64,{base64.b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def answer_from_body(body: Any) -> Answer:
    """The answer in the body of a chat completion. Raises ValueError when it is none."""
    try:
        choice = body["choices"][0]
        message = choice["message"]
        content = message.get("content")
        usage = body.get("usage") or {}
        answer = {
            "text": content if isinstance(content, str) else _joined(content),
            "finish": str(choice.get("finish_reason") or ""),
            "refusal": message.get("refusal"),
            "id": str(body.get("id") or ""),
            "prompt_tokens": int(usage.get("prompt_tokens") or 0),
            "completion_tokens": int(usage.get("completion_tokens") or 0),
        }
    except (KeyError, IndexError, TypeError, AttributeError):
        said = _error_in(json.dumps(body))[0]
        raise ValueError(said or "it has no choices") from None
    return answer


def check_secrets(settings: EndpointSettings, section: str) -> None:
    """Raises ValueError, which does not quote it, for a key where it would be written into files."""
    variable = settings.key_variable
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", variable):
        raise ValueError(
            f"{section}.key_variable must be the name of an environment variable, such as OPENAI_API_KEY; "
            "it does not look like one, and is not shown here because it may be the key itself"
        )
    url, name = settings.base_url, f"{section}.base_url"
    if url is None:
        url, name = os.environ.get("OPENAI_BASE_URL"), "the environment variable OPENAI_BASE_URL"
    if url is None:
        return
    parts = urlsplit(url)
    if "@" in url or parts.query or parts.fragment:
        raise ValueError(
            f"{name} must hold no user, password or query; a key belongs into the environment variable {variable}"
        )
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError(f"{name} is {url!r}, but must be like http://localhost:8000/v1")


def key_from_environment(settings: EndpointSettings, section: str) -> str:
    """The stripped key; "none" for a server of one's own that wants none. Raises ValueError, which never quotes it."""
    check_secrets(settings, section)
    variable = settings.key_variable
    key = os.environ.get(variable, "").strip()
    if not key:
        if settings.base_url is not None or "OPENAI_BASE_URL" in os.environ:
            return "none"
        raise ValueError(f"the environment variable {variable} is not set; it must hold the endpoint's key")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError(f"the environment variable {variable} holds characters that no key has")
    return key


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
        raise AskingStopped("stopped")


def _joined(parts: Any) -> str:
    """Content as a list of parts, as some servers send it."""
    return "".join(part.get("text", "") for part in parts or [] if isinstance(part, dict))


def _error_in(text: str) -> tuple[str, str]:
    """(message, code) of an error's body, which may be JSON of several kinds, HTML or plain text."""
    try:
        values = json.loads(text)
    except ValueError:
        return ("a page of HTML" if text.lstrip()[:1] == "<" else one_line(text)[:300]), ""
    error = values.get("error", values) if isinstance(values, dict) else values
    if isinstance(error, dict):
        said = error.get("message") or error.get("detail") or json.dumps(error)
        return one_line(str(said))[:300], str(error.get("code") or "")
    return one_line(str(error))[:300], ""

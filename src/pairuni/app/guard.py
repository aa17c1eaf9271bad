"""Who may use the app: people at this machine, or those with the token."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from pairuni.io.access import is_loopback

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class Guard:
    """Lets a request through if it comes from a person who may use the app.

    With a token, the browser asks for it as the password of any user. Without one, only requests that name this
    machine are served, so that no web page reaches the app under a name of its own. Requests that another site's page
    sends are refused.
    """

    def __init__(self, app: Application, token: str) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            refused = self.refusal(headers)
            if refused is not None:
                await _answer(send, *refused)
                return
        elif scope["type"] == "websocket":
            return
        await self._app(scope, receive, send)

    def refusal(self, headers: dict[str, str]) -> tuple[int, str] | None:
        """Status and reason for a request that is not served, or None."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if self._token:
            if not self._knows_token(headers.get("authorization", "")):
                return 401, "This app asks for its token: give it as the password, with any user name."
        elif not is_loopback(_host_of(f"//{host}")):
            return 403, "Without a token, this app is served only as localhost or 127.0.0.1."
        if origin is not None and origin.partition("://")[2] != host:
            return 403, "Pages of other sites may not use this app."
        return None

    def _knows_token(self, authorization: str) -> bool:
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            password = base64.b64decode(given, validate=True).partition(b":")[2]
        except binascii.Error:
            return False
        return hmac.compare_digest(password, self._token.encode())


def _host_of(url: str) -> str:
    """The host of a URL, without port; empty if it has none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


async def _answer(send: Send, status: int, reason: str) -> None:
    body = reason.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b'Basic realm="PairUni", charset="UTF-8"'))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

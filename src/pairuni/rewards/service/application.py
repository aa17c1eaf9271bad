"""The endpoints of a reward server: POST /score (``pairuni.rewards.service.wire``) and GET /health."""

from __future__ import annotations

import asyncio
import hmac
import json
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from pairuni import __version__
from pairuni.rewards.reward import Reward, needs_of, range_of
from pairuni.rewards.service.limits import MOST_HEADER_BYTES, RETRY_SECONDS, Limits
from pairuni.rewards.service.scoring import Scorer
from pairuni.rewards.service.wire import bounds_to_json


class RewardService:
    """One reward as an ASGI application; every reply is a JSON object."""

    def __init__(self, reward: Reward, token: str, limit: float | None, limits: Limits) -> None:
        """token: without it as bearer token, nothing but /health is answered; empty lets everybody in."""
        self._reward = reward
        self._wanted = f"Bearer {token}".encode() if token else b""
        self._limit = limit
        self._limits = limits
        self._scorer: Scorer | None = None
        self._inside = 0
        self._arriving = 0
        self._app = Starlette(
            routes=[Route("/health", self._health), Route("/score", self._score, methods=["POST"])],
            exception_handlers={HTTPException: self._elsewhere},
        )
        self._app.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        size = sum(len(name) + len(value) for name, value in scope["headers"])
        if size > MOST_HEADER_BYTES:
            reply = _reply(
                431, {"error": f"the header has more than {MOST_HEADER_BYTES:,} bytes"}, close=True
            )
            await reply(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def close(self) -> None:
        """Let the threads end."""
        if self._scorer is not None:
            self._scorer.close()

    async def _health(self, request: Request) -> Response:
        if request.url.query:
            return _reply(400, {"error": "/health takes no query"})
        reward = self._reward
        return _reply(
            200,
            {
                "name": reward.name,
                "range": bounds_to_json(range_of(reward)),
                "needs": needs_of(reward),
                "version": __version__,
            },
        )

    async def _elsewhere(self, request: Request, error: Exception) -> Response:
        if request.method == "POST" and not self._is_allowed(request):
            return _UNKNOWN
        return _reply(404, {"error": "there are GET /health and POST /score"})

    async def _score(self, request: Request) -> Response:
        length = request.headers.get("content-length", "")
        if not length.isdecimal() or len(length) > 15 or int(length) > self._limits.body_bytes:
            most = f"{self._limits.body_bytes:,}"
            return _reply(413, {"error": f"a request must say its length, at most {most} bytes"}, close=True)
        if not self._is_allowed(request):
            return _UNKNOWN
        scorer = self._scorer = self._scorer or Scorer(self._reward, self._limit)
        if max(self._inside, scorer.waiting) >= self._limits.requests:
            return _busy("the server has as many requests as it takes")
        self._inside += 1
        try:
            return await self._scored(request, scorer)
        except ClientDisconnect:
            return _reply(400, {"error": "the request ended before its body"})
        except asyncio.CancelledError:
            return _busy("the server is stopping")
        finally:
            self._inside -= 1

    async def _scored(self, request: Request, scorer: Scorer) -> Response:
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                async for chunk in request.stream():
                    body += chunk
                    self._arriving += len(chunk)
                    if self._arriving + scorer.size > self._limits.body_bytes:
                        return _busy("the server holds as many bytes of requests as it takes")
        except TimeoutError:
            sentence = f"the request did not arrive within {self._limits.body_seconds:g} seconds"
            return _reply(408, {"error": sentence}, close=True)
        finally:
            self._arriving -= len(body)
        key, reply = scorer.ask(body)
        del body
        try:
            async with asyncio.timeout(self._limits.reply_seconds):
                status, said = await asyncio.shield(reply)
        except TimeoutError:
            return _busy(f"the request was not scored within {self._limits.reply_seconds:g} seconds")
        if not await request.is_disconnected():
            scorer.heard(key, reply)
        return _reply(status, said)

    def _is_allowed(self, request: Request) -> bool:
        given = dict(request.scope["headers"]).get(b"authorization", b"")
        return not self._wanted or hmac.compare_digest(self._wanted, given)


def _reply(status: int, said: dict[str, Any], *, close: bool = False, again: bool = False) -> Response:
    headers = {"Connection": "close"} if close else {}
    if again:
        headers["Retry-After"] = str(RETRY_SECONDS)
    return Response(json.dumps(said), status, headers, media_type="application/json")


def _busy(reason: str) -> Response:
    return _reply(503, {"error": f"{reason}: try again in a moment"}, again=True)


_UNKNOWN = _reply(401, {"error": "the bearer token is missing or wrong"})

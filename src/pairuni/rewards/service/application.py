"""The endpoints of a reward server, GET /health and POST /score, with the JSON of ``wire``."""

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
from pairuni.rewards.service.limits import MAX_HEADER_BYTES, RETRY_SECONDS, Limits
from pairuni.rewards.service.scoring import Scorer
from pairuni.rewards.service.wire import bounds_to_json


class RewardService:
    """One reward as an ASGI application. Every reply is a JSON object."""

    def __init__(self, reward: Reward, token: str, limit: float | None, limits: Limits) -> None:
        """token: the bearer token that /score requires; empty for none. limit: seconds for scoring one request."""
        self._reward = reward
        self._authorization = f"Bearer {token}".encode() if token else b""
        self._limit = limit
        self._limits = limits
        self._scorer: Scorer | None = None
        self._requests = 0  # received or scored now
        self._bytes_arrived = 0  # of bodies that are still arriving
        self._app = Starlette(
            routes=[Route("/health", self._health), Route("/score", self._score, methods=["POST"])],
            exception_handlers={HTTPException: self._not_found},
        )
        self._app.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        size = sum(len(name) + len(value) for name, value in scope["headers"])
        if size > MAX_HEADER_BYTES:
            refusal = _error(431, f"the header has more than {MAX_HEADER_BYTES:,} bytes", close=True)
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def close(self) -> None:
        """End the scoring threads."""
        if self._scorer is not None:
            self._scorer.close()

    async def _health(self, request: Request) -> Response:
        if request.url.query:
            return _error(400, "/health takes no query")
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

    async def _not_found(self, request: Request, error: Exception) -> Response:
        if request.method == "POST" and not self._is_allowed(request):
            return _UNAUTHORIZED
        return _error(404, "the endpoints are GET /health and POST /score")

    async def _score(self, request: Request) -> Response:
        length = request.headers.get("content-length", "")
        if not length.isdecimal() or len(length) > 15 or int(length) > self._limits.body_bytes:
            most = f"{self._limits.body_bytes:,}"
            return _error(413, f"a request needs a Content-Length of at most {most} bytes", close=True)
        if not self._is_allowed(request):
            return _UNAUTHORIZED
        scorer = self._scorer = self._scorer or Scorer(self._reward, self._limit)
        if max(self._requests, scorer.waiting) >= self._limits.requests:
            return _busy("the server has reached its limit of requests")
        self._requests += 1
        try:
            return await self._receive_and_score(request, scorer)
        except ClientDisconnect:
            return _error(400, "the connection closed before the end of the body")
        except asyncio.CancelledError:
            return _busy("the server is stopping")
        finally:
            self._requests -= 1

    async def _receive_and_score(self, request: Request, scorer: Scorer) -> Response:
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                async for chunk in request.stream():
                    body += chunk
                    self._bytes_arrived += len(chunk)
                    if self._bytes_arrived + scorer.size > self._limits.body_bytes:
                        return _busy("the server has reached its limit of bytes in requests")
        except TimeoutError:
            message = f"the request did not arrive within {self._limits.body_seconds:g} seconds"
            return _error(408, message, close=True)
        finally:
            self._bytes_arrived -= len(body)
        key, reply = scorer.submit(body)
        del body
        try:
            async with asyncio.timeout(self._limits.reply_seconds):
                status, content = await asyncio.shield(reply)
        except TimeoutError:
            return _busy(f"the request was not scored within {self._limits.reply_seconds:g} seconds")
        if not await request.is_disconnected():
            scorer.delivered(key, reply)
        return _reply(status, content)

    def _is_allowed(self, request: Request) -> bool:
        given = dict(request.scope["headers"]).get(b"authorization", b"")
        return not self._authorization or hmac.compare_digest(self._authorization, given)


def _reply(status: int, content: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps(content), status, headers, media_type="application/json")


def _error(status: int, message: str, *, close: bool = False) -> Response:
    return _reply(status, {"error": message}, {"Connection": "close"} if close else None)


def _busy(reason: str) -> Response:
    return _reply(503, {"error": f"{reason}: try again in a moment"}, {"Retry-After": str(RETRY_SECONDS)})


_UNAUTHORIZED = _error(401, "the bearer token is missing or wrong")

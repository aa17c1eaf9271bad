"""HTTP requests with a deadline in total, not only between bytes, and a limit on the response's size."""

from __future__ import annotations

import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import httpx2

from pairuni.io.threads import call_within

Made = TypeVar("Made")

_ENCODINGS = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}
_GZIP = b"\x1f\x8b"


class TransportError(Exception):
    """A request without a complete response; it may succeed when sent again."""


@dataclass(frozen=True)
class Response:
    """A response with its body decompressed."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HTTPTransport:
    """Posts JSON, from many threads. Does not follow redirections."""

    def __init__(
        self, headers: Mapping[str, str], *, timeout: float, deadline: float, most_bytes: int
    ) -> None:
        """timeout: seconds without a byte; deadline: seconds in total; most_bytes: the longest body."""
        self._timeout = timeout
        self._deadline = deadline
        self._most_bytes = most_bytes
        sent = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "gzip"}
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=64)
        self._client = httpx2.Client(headers={**sent, **headers}, timeout=timeout, limits=limits)

    def post(self, url: str, body: bytes) -> Response:
        """The response. Raises TransportError."""
        return call_within(self._deadline + 1.0, lambda: self._post(url, body), self._too_long())

    def _post(self, url: str, body: bytes) -> Response:
        until = time.monotonic() + self._deadline
        data = bytearray()
        try:
            with self._client.stream("POST", url, content=body) as response:
                for piece in response.iter_raw():
                    data += piece
                    if time.monotonic() > until:
                        raise self._too_long()
                    if len(data) > self._most_bytes:
                        raise TransportError(f"the answer is longer than {self._most_bytes:,} bytes")
                headers = {name.lower(): value for name, value in response.headers.items()}
                return Response(response.status_code, headers, self._plain(bytes(data), headers))
        except httpx2.TimeoutException:
            raise TransportError(f"no answer within {self._timeout:g} seconds") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError) as error:
            raise TransportError(f"the connection broke ({error or type(error).__name__})") from None

    def _plain(self, data: bytes, headers: Mapping[str, str]) -> bytes:
        """The decompressed body, also if no header says that it is compressed."""
        for encoding in reversed(
            [one.strip().lower() for one in headers.get("content-encoding", "").split(",")]
        ):
            if encoding in _ENCODINGS and not (encoding == "gzip" and not data.startswith(_GZIP)):
                data = self._inflated(data, _ENCODINGS[encoding])
            elif encoding not in ("", "identity", "gzip"):
                raise TransportError(f"the answer is compressed as {encoding}, which was not requested")
        return self._inflated(data, _ENCODINGS["gzip"]) if data.startswith(_GZIP) else data

    def _inflated(self, data: bytes, bits: int) -> bytes:
        inflating = zlib.decompressobj(bits)
        try:
            plain = inflating.decompress(data, self._most_bytes)
        except zlib.error as error:
            raise TransportError(f"the answer is not compressed as its header says ({error})") from None
        if not inflating.eof:
            raise TransportError("the compressed answer is incomplete or too long")
        return plain

    def _too_long(self) -> TransportError:
        return TransportError(
            f"no complete answer within {self._deadline:g} seconds, although bytes keep coming"
        )

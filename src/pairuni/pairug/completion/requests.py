"""One request to a vision-language model, and the key under which its answer is stored."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from pairuni.io.images import decode, read_bytes, read_header

_CHARACTERS_PER_TOKEN = 4
_PIXELS_PER_TOKEN = 28 * 28
_AS_RGB = b"rgb on white"


def key_of(values: Any) -> str:
    """Digest of JSON values, as 32 hexadecimal digits."""
    return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class RequestImage:
    """An image file to send: the digest of its bytes, and its size as sent (longest side at most ``side``)."""

    path: Path
    side: int
    digest: str
    width: int
    height: int

    @classmethod
    def of(cls, path: Path, side: int) -> RequestImage:
        """Reads only the header. Raises ImageError for a file that is not a usable image."""
        data = read_bytes(path)
        header = read_header(data)
        width, height = header.size
        scale = min(1.0, side / max(width, height))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        # a file that is sent as RGB has another digest, as answers about its raw bytes may differ
        form = b"" if header.mime else _AS_RGB
        return cls(path, side, hashlib.blake2b(data, digest_size=16, person=form).hexdigest(), *size)

    @property
    def tokens(self) -> int:
        """Estimated tokens: one for 28 x 28 pixels."""
        return -(-self.width * self.height // _PIXELS_PER_TOKEN)

    def load(self) -> Image.Image:
        """The RGB image, scaled down. Raises ImageError."""
        return self._scaled(decode(read_bytes(self.path)).image)

    def encoded(self) -> tuple[str, bytes]:
        """(MIME type, bytes) to send. Raises ImageError.

        The file itself if it is small enough and every decoder makes the same RGB image of it, else a PNG.
        """
        data = read_bytes(self.path)
        decoded = decode(data)
        if decoded.header.mime is not None and decoded.image.size == (self.width, self.height):
            return decoded.header.mime, data
        buffer = BytesIO()
        self._scaled(decoded.image).save(buffer, "PNG")
        return "image/png", buffer.getvalue()

    def _scaled(self, image: Image.Image) -> Image.Image:
        size = self.width, self.height
        return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


@dataclass(frozen=True)
class Request:
    """One request. Equal requests have the same key for every server."""

    model: str
    system: str
    text: str
    images: tuple[RequestImage, ...]
    name: str
    """Name of the reply in its schema."""
    schema: dict[str, Any]
    max_tokens: int
    temperature: float | None

    @property
    def content(self) -> tuple[RequestImage | str, ...]:
        return *self.images, self.text

    @cached_property
    def key(self) -> str:
        shown = [[image.digest, image.side] for image in self.images]
        return key_of(
            [
                self.model,
                self.system,
                self.text,
                shown[0] if len(shown) == 1 else shown,
                [self.name, self.schema],
                [self.max_tokens, self.temperature],
            ]
        )

    @property
    def tokens(self) -> int:
        """Estimated tokens sent: one for four characters, and those of the images."""
        words = len(self.system + self.text) // _CHARACTERS_PER_TOKEN
        return words + sum(image.tokens for image in self.images)

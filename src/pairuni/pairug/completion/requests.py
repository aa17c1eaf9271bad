"""One question to a vision-language model, and the key under which its answer is stored."""

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
    """A digest of JSON-like values, 32 hexadecimal digits."""
    return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Picture:
    """An image by its file: digest of what is sent, and its size as sent (longest side at most ``side``)."""

    path: Path
    side: int
    digest: str
    width: int
    height: int

    @classmethod
    def of(cls, path: Path, side: int) -> Picture:
        """Reads the header only. Raises ImageError when there is no image that can be used."""
        data = read_bytes(path)
        header = read_header(data)
        width, height = header.size
        scale = min(1.0, side / max(width, height))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        # answers about a file that was once sent in another form must not be taken for answers about this one
        form = b"" if header.mime else _AS_RGB
        return cls(path, side, hashlib.blake2b(data, digest_size=16, person=form).hexdigest(), *size)

    @property
    def tokens(self) -> int:
        """Roughly what a model is charged for it: one token for 28 x 28 pixels."""
        return -(-self.width * self.height // _PIXELS_PER_TOKEN)

    def load(self) -> Image.Image:
        """The RGB image, scaled down. Raises ImageError."""
        return self._scaled(decode(read_bytes(self.path)).image)

    def encoded(self) -> tuple[str, bytes]:
        """(MIME type, bytes) to send: the file itself where it is small enough and every reader makes the image of
        it that a policy is trained on, else a PNG of that image. Raises ImageError."""
        data = read_bytes(self.path)
        whole = decode(data)
        if whole.header.mime is not None and whole.image.size == (self.width, self.height):
            return whole.header.mime, data
        buffer = BytesIO()
        self._scaled(whole.image).save(buffer, "PNG")
        return "image/png", buffer.getvalue()

    def _scaled(self, image: Image.Image) -> Image.Image:
        size = self.width, self.height
        return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


@dataclass(frozen=True)
class Request:
    """What is asked of a model once. Requests that ask the same have the same key, wherever they are sent."""

    model: str
    system: str
    text: str
    picture: Picture
    name: str
    """What the reply is called in the schema."""
    schema: dict[str, Any]
    max_tokens: int
    temperature: float | None

    @property
    def content(self) -> tuple[Picture, str]:
        return self.picture, self.text

    @cached_property
    def key(self) -> str:
        return key_of(
            [
                self.model,
                self.system,
                self.text,
                [self.picture.digest, self.picture.side],
                [self.name, self.schema],
                [self.max_tokens, self.temperature],
            ]
        )

    @property
    def tokens(self) -> int:
        """Roughly the tokens sent: four characters a token, and the image."""
        return len(self.system + self.text) // _CHARACTERS_PER_TOKEN + self.picture.tokens

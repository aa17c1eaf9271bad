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

from pairuni.pairug.images import MOST_PIXELS, ImageError, decode_image, read_bytes

_SENT_AS_THEY_ARE = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
_CHARACTERS_PER_TOKEN = 4
_PIXELS_PER_TOKEN = 28 * 28


def key_of(values: Any) -> str:
    """A digest of JSON-like values, 32 hexadecimal digits."""
    return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Picture:
    """A picture by its file: digest of the file's bytes, and its size as sent (longest side at most ``side``)."""

    path: Path
    side: int
    digest: str
    width: int
    height: int

    @classmethod
    def of(cls, path: Path, side: int) -> Picture:
        """Reads the header only. Raises ImageError when there is no picture that can be used."""
        data = read_bytes(path)
        try:
            with Image.open(BytesIO(data)) as image:
                width, height = image.size
        except Exception as error:
            decode_image(data)  # names the fault
            raise ImageError(f"cannot be opened ({error})") from None
        if width * height > MOST_PIXELS:
            decode_image(data)
        scale = min(1.0, side / max(width, height))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        return cls(path, side, hashlib.blake2b(data, digest_size=16).hexdigest(), *size)

    @property
    def tokens(self) -> int:
        """Roughly what a model is charged for it: one token for 28 x 28 pixels."""
        return -(-self.width * self.height // _PIXELS_PER_TOKEN)

    def load(self) -> Image.Image:
        """The RGB picture, scaled down. Raises ImageError."""
        image = decode_image(read_bytes(self.path))
        if image.size != (self.width, self.height):
            image = image.resize((self.width, self.height), Image.Resampling.LANCZOS)
        return image

    def encoded(self) -> tuple[str, bytes]:
        """(MIME type, bytes) to send: the file itself where it is small enough, else a PNG. Raises ImageError."""
        data = read_bytes(self.path)
        whole = decode_image(data)
        with Image.open(BytesIO(data)) as image:
            mime = _SENT_AS_THEY_ARE.get(image.format or "")
            # of other modes a server makes what it likes, and not the picture that a policy will see
            plain = image.mode in ("RGB", "L") and "transparency" not in image.info
        if mime is not None and plain and whole.size == (self.width, self.height):
            return mime, data
        buffer = BytesIO()
        self.load().save(buffer, "PNG")
        return "image/png", buffer.getvalue()


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
        """Roughly the tokens sent: four characters a token, and the picture."""
        return len(self.system + self.text) // _CHARACTERS_PER_TOKEN + self.picture.tokens

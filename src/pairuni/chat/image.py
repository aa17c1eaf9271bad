"""Images in memory and in files, encoded to be sent."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

from pairuni.io.images import ImageError, decode, read_bytes


@dataclass(frozen=True)
class MemoryImage:
    """An image to send as PNG. side: scale it down to this longest side, in pixels."""

    image: Image.Image
    side: int | None = None

    def encoded(self) -> tuple[str, bytes]:
        """(MIME type, the file's bytes)."""
        image = self.image
        if self.side is not None and max(image.size) > self.side:
            image = image.copy()
            image.thumbnail((self.side, self.side), Image.Resampling.LANCZOS)
        buffer = BytesIO()
        # images cross a network once: more compression would cost more time than it saves
        image.save(buffer, "PNG", compress_level=1)
        return "image/png", buffer.getvalue()


def sendable(path: Path) -> tuple[str, bytes]:
    """(MIME type, bytes) of an image file: its own if every decoder makes the same RGB image of it, else a PNG's.

    Raises ImageError naming the file.
    """
    try:
        data = read_bytes(path)
        decoded = decode(data)
    except ImageError as error:
        raise ImageError(error.reason, path) from None
    if decoded.header.mime is not None:
        return decoded.header.mime, data
    return MemoryImage(decoded.image).encoded()

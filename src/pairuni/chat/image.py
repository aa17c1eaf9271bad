"""Images as they are sent: those in memory, and those in files."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

from pairuni.io.images import ImageError, decode, read_bytes


@dataclass(frozen=True)
class MemoryImage:
    """An image to send as PNG; with ``side``, scaled down so that its longest side is at most so many pixels."""

    image: Image.Image
    side: int | None = None

    def encoded(self) -> tuple[str, bytes]:
        """(MIME type, the file's bytes)."""
        image = self.image
        if self.side is not None and max(image.size) > self.side:
            image = image.copy()
            image.thumbnail((self.side, self.side), Image.Resampling.LANCZOS)
        buffer = BytesIO()
        # least effort: images cross a network once, and compressing them costs more than it saves
        image.save(buffer, "PNG", compress_level=1)
        return "image/png", buffer.getvalue()


def sendable(path: Path) -> tuple[str, bytes]:
    """(MIME type, bytes) of an image's file: its own where every reader makes the same RGB of it, else a PNG's.

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

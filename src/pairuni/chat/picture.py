"""Pictures in memory as they are sent."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

from PIL import Image


@dataclass(frozen=True)
class MemoryPicture:
    """A picture to send as PNG; with ``side``, scaled down so that its longest side is at most so many pixels."""

    image: Image.Image
    side: int | None = None

    def encoded(self) -> tuple[str, bytes]:
        """(MIME type, the file's bytes)."""
        image = self.image
        if self.side is not None and max(image.size) > self.side:
            image = image.copy()
            image.thumbnail((self.side, self.side), Image.Resampling.LANCZOS)
        buffer = BytesIO()
        # least effort: pictures cross a network once, and compressing them costs more than it saves
        image.save(buffer, "PNG", compress_level=1)
        return "image/png", buffer.getvalue()

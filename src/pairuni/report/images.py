"""Thumbnails for a page: as data URIs inside it, or as files next to it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from pairuni.io.images import ImageError, load_image
from pairuni.io.paths import path_fault
from pairuni.report.markup import escape

LARGEST = 384
"""Longest side in pixels of an image in a report; larger ones are scaled down."""
CRISP = 96
"""Longest side in pixels of images that are kept lossless and shown pixel by pixel."""


@dataclass(frozen=True)
class Thumbnail:
    """An encoded image. width, height: in pixels."""

    data: bytes
    kind: Literal["png", "jpeg"]
    width: int
    height: int

    def uri(self) -> str:
        """The image as a data URI."""
        return f"data:image/{self.kind};base64,{base64.b64encode(self.data).decode('ascii')}"


def thumbnail(folder: Path, path: str, largest: int) -> Thumbnail | None:
    """``folder/path`` with sides of at most ``largest`` pixels; None if missing, unreadable or outside."""
    if not path or path_fault(folder, path) is not None:
        return None
    try:
        image = load_image(folder / path, near=largest)
    except ImageError:
        return None
    image.thumbnail((largest, largest), Image.Resampling.LANCZOS)
    small = max(image.size) <= CRISP
    encoded = io.BytesIO()
    image.save(encoded, "PNG", optimize=True) if small else image.save(encoded, "JPEG", quality=85)
    return Thumbnail(encoded.getvalue(), "png" if small else "jpeg", image.width, image.height)


def image_tag(folder: Path, path: str, alt: str) -> str:
    """An <img> of ``folder/path``; a placeholder if it is missing, unreadable or outside ``folder``."""
    found = thumbnail(folder, path, LARGEST)
    if found is None:
        return (
            f'<span class="image missing" role="img" aria-label="{escape(alt)}: not found">not found</span>'
        )
    crisp = " crisp" if max(found.width, found.height) <= CRISP else ""
    return (
        f'<img class="image{crisp}" src="{found.uri()}" width="{found.width}" height="{found.height}" '
        f'alt="{escape(alt)}" loading="lazy">'
    )


def image_tags(folder: Path, paths: Sequence[str], alt: str) -> str:
    """``image_tag`` of one image; several share its square."""
    count = len(paths)
    if count == 1:
        return image_tag(folder, paths[0], alt)
    tags = [
        image_tag(folder, path, f"{alt} (image {place} of {count})")
        for place, path in enumerate(paths, start=1)
    ]
    size = " crowded" if count > 9 else " many" if count > 4 else ""
    return f'<span class="several{size}">{"".join(tags)}</span>'

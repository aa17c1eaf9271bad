"""Pictures as data URIs, so that a page stands alone."""

from __future__ import annotations

import base64
import io
from html import escape
from pathlib import Path

from PIL import Image

LARGEST = 256
"""Longest side in pixels of an embedded picture; larger ones are scaled down."""


def picture(folder: Path, path: str, alt: str) -> str:
    """An <img> of ``folder/path``; a placeholder when it is missing, unreadable or outside ``folder``."""
    uri = _data_uri(folder, path)
    if uri is None:
        return (
            f'<span class="picture missing" role="img" aria-label="{escape(alt)}: not found">not found</span>'
        )
    source, width, height = uri
    crisp = " crisp" if max(width, height) <= 96 else ""
    return (
        f'<img class="picture{crisp}" src="{source}" width="{width}" height="{height}" '
        f'alt="{escape(alt)}" loading="lazy">'
    )


def _data_uri(folder: Path, path: str) -> tuple[str, int, int] | None:
    file = (folder / path).resolve()
    if not path or not file.is_relative_to(folder.resolve()):
        return None
    try:
        with Image.open(file) as opened:
            opened.draft("RGB", (LARGEST, LARGEST))
            image = opened.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    small = max(image.size) <= 96
    encoded = io.BytesIO()
    image.save(encoded, "PNG", optimize=True) if small else image.save(encoded, "JPEG", quality=85)
    kind = "png" if small else "jpeg"
    text = base64.b64encode(encoded.getvalue()).decode("ascii")
    return f"data:image/{kind};base64,{text}", image.width, image.height

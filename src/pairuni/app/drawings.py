"""Images and answers of models as HTML; images are kept as files that the server serves."""

from __future__ import annotations

import hashlib
import io
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from pairuni.app.models import Drawing
from pairuni.io.files import atomic_write
from pairuni.report.images import CRISP
from pairuni.report.markup import escape

ROUTE = "drawings"
"""The first part of an image's URL, relative to the page."""
Panel = tuple[str, str]
"""The name of a model and HTML of what it made."""


class DrawingFiles:
    """Images as PNGs in a folder, named by their content."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, image: Image.Image) -> str:
        """Keep an image; its URL, relative to the page."""
        encoded = io.BytesIO()
        image.save(encoded, "PNG")
        name = f"{hashlib.sha256(encoded.getvalue()).hexdigest()[:32]}.png"
        if not (self._folder / name).exists():
            with atomic_write(self._folder / name, sync=False) as partial:
                partial.write_bytes(encoded.getvalue())
        return f"{ROUTE}/{name}"

    def upload(self, image: Image.Image) -> dict[str, Any]:
        """Keep an image; gradio's FileData for it, as of a file that a user uploaded."""
        url = self.add(image)
        name = url.rpartition("/")[2]
        return {
            "path": str(self._folder / name),
            "url": url,
            "orig_name": name,
            "meta": {"_type": "gradio.FileData"},
        }

    def path(self, name: str) -> Path | None:
        """The file of an image that was added."""
        path = self._folder / name
        return path if re.fullmatch(r"[0-9a-f]{32}\.png", name) and path.is_file() else None


def figures(drawn: Sequence[tuple[Drawing, str]], *, several: bool) -> str:
    """Images with their URLs as a grid. several: seeds have more than one image each."""
    shown = []
    for one, url in drawn:
        caption = f"seed {one.seed}, image {one.number}" if several else f"seed {one.seed}"
        crisp = " crisp" if max(one.image.size) <= CRISP else ""
        shown.append(
            f'<figure><img class="image{crisp}" src="{url}" width="{one.image.width}" height="{one.image.height}" '
            f'alt="{caption}"><figcaption>{caption}</figcaption></figure>'
        )
    small = all(max(one.image.size) <= CRISP for one, _ in drawn)
    return f'<div class="drawings{" small-ones" if small else ""}">{"".join(shown)}</div>'


def reply(text: str) -> str:
    """An answer of a model."""
    return f'<p class="reply">{escape(text) or "<i>nothing</i>"}</p>'


def panels(made: Sequence[Panel]) -> str:
    """What models made, side by side, or below each other on a narrow page."""
    body = "".join(f"<section><h3>{escape(name)}</h3>{shown}</section>" for name, shown in made)
    return f'<div class="panels">{body}</div>'


def done(what: str, seconds: float, commands: Sequence[Sequence[str]]) -> str:
    """What was made, and the commands that make the same."""
    lines = "\n".join(escape(shlex.join(words)) for words in commands)
    return (
        f'<p role="status">{escape(what)} in {seconds:.1f} s</p>'
        f"<details><summary>The same in a terminal</summary><pre>{lines}</pre></details>"
    )

"""Components of gradio as this page uses them, and how errors are shown."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import gradio as gr

from pairuni.console.sentences import EXPECTED, sentence
from pairuni.report.markup import escape

logger = logging.getLogger("pairuni")

Changes = dict[Any, Any]
"""Components and their new values."""

ONE_AT_A_TIME: dict[str, Any] = {
    "concurrency_limit": 1,
    "concurrency_id": "models",
    "show_progress": "hidden",
    "api_visibility": "undocumented",
}
"""Of requests to models, which wait in one queue because models share the device."""
AT_ONCE: dict[str, Any] = {"concurrency_limit": 8, "show_progress": "hidden", "api_visibility": "private"}


PICTURE = ["uploaded"]


def picture() -> gr.Image:
    """An image of a user. Its events set preprocess = False, so that gradio does not decode it: see ``path_of``."""
    return gr.Image(
        label="Image",
        sources=["upload", "clipboard"],
        height=260,
        buttons=[],
        format="png",  # lossless, where the page shows an image that a browser could not
        elem_classes=PICTURE,
    )


def path_of(uploaded: dict[str, Any] | None) -> Path | None:
    """The file of an image that was uploaded, which gradio has checked to be in its folder of uploads."""
    return Path(uploaded["path"]) if uploaded and uploaded.get("path") else None


def html() -> gr.HTML:
    """A place for HTML in the report's style."""
    return gr.HTML("", elem_classes=["pairuni"], apply_default_css=False, js_on_load=None)


def said(text: str) -> str:
    return f'<p role="status">{escape(text)}</p>'


def fault(error: Exception) -> str:
    """An error as HTML; a traceback goes to the log only."""
    if isinstance(error, EXPECTED):
        return f'<p class="fault" role="alert">{escape(sentence(error))}</p>'
    logger.error("the app failed", exc_info=error)
    return '<p class="fault" role="alert">The program failed; its terminal shows the traceback.</p>'


def guarded(work: Callable[..., Iterator[Changes]], status: gr.HTML) -> Callable[..., Iterator[Changes]]:
    """``work``, whose errors become a sentence in ``status``."""

    @wraps(work)
    def run(*given: Any) -> Iterator[Changes]:
        try:
            yield from work(*given)
        except Exception as error:
            yield {status: fault(error)}

    return run

"""Components of gradio as this page uses them, and how errors are shown."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import wraps
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
AT_ONCE: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""Of requests that are answered in moments. Not in gradio's queue: a page that ends one queued request while it begins
another may never show the results of the other."""


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

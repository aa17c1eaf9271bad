"""Components of gradio as this page uses them, how requests begin and end, and how errors are shown."""

from __future__ import annotations

import json
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


def buttons(name: str) -> tuple[gr.Button, gr.Button]:
    """The button that begins a request, and the one that ends it."""
    with gr.Row():
        go = gr.Button(name, variant="primary", min_width=120)
        return go, gr.Button("Stop", min_width=80, interactive=False)


def connect(
    go: gr.Button,
    stop: gr.Button,
    status: gr.HTML,
    work: Callable[..., Iterator[Changes]],
    inputs: list[Any],
    outputs: list[Any],
) -> None:
    """Run ``work`` by the button or by Enter in a text field, until it ends or Stop is pressed."""
    starts = [go.click, *(field.submit for field in inputs if isinstance(field, gr.Textbox))]

    def run(*given: Any) -> Iterator[Changes]:
        yield {shown: "" for shown in outputs if shown is not status}
        yield from guarded(work, status)(*given)

    waiting = {status: said("Waiting for the model …"), stop: {"interactive": True}}
    gr.on(starts, **_in_the_page(waiting))  # a request that waits for those of others sends nothing
    running = gr.on(starts, run, inputs, outputs, api_name=work.__name__, preprocess=False, **ONE_AT_A_TIME)
    # until then the model finishes what it has begun
    stop.click(**_in_the_page({status: said("Stopping …")}), cancels=[running])
    running.failure(**_in_the_page({status: said("Stopped.")}))
    running.then(**_in_the_page({stop: {"interactive": False}}))


def _in_the_page(changes: Changes) -> dict[str, Any]:
    """A listener that changes values or properties without asking the server."""
    new = [
        {"__type__": "update", **value} if isinstance(value, dict) else value for value in changes.values()
    ]
    return {
        "fn": None,
        "inputs": None,
        "outputs": list(changes),
        "js": f"() => {json.dumps(new)}",
        "show_progress": "hidden",
        "api_visibility": "private",
    }

"""The tabs Draw, Ask and Edit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from pairuni.app.components import AT_ONCE, ONE_AT_A_TIME, Changes, fault, guarded, html, said
from pairuni.app.drawings import DrawingFiles, Panel, done, figures, panels, reply
from pairuni.app.models import Drawing, Models, check_shown, read_count, read_number, read_seeds
from pairuni.app.uploads import (
    Upload,
    check_upload,
    check_uploads,
    opened,
    path_of,
    picture,
    pictures,
    uploads_of,
)
from pairuni.console.counts import counted
from pairuni.policies.policy import CannotShowSeveral

NO_MODEL = "none"
OWN = "the model's own"


def draw_tab(models: Models, files: DrawingFiles) -> None:
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            prompt = gr.Textbox("", label="Prompt", lines=2, placeholder="What the image shows")
            first, second = _model_choices(models)
            with gr.Row():
                seeds = gr.Textbox("0", label="Seeds", info="such as 0, 3 or 0-3", min_width=120)
                count = gr.Textbox("4", label="Images of each seed", info="1 to 16", min_width=120)
            with gr.Row():
                guidance = gr.Textbox("", label="Guidance", info="1: none", placeholder=OWN, min_width=120)
                temperature = gr.Textbox("1", label="Temperature", info="0: greedy", min_width=120)
            go, stop = _buttons("Draw")
        with gr.Column(scale=2, min_width=280):
            status, results = html(), html()

    def draw(
        text: str, one: str, other: str, seed_text: str, each: str, weight: str, warmth: str
    ) -> Iterator[Changes]:
        yield {status: said("Waiting for the model …"), results: ""}
        names, wanted, images = _chosen(one, other), read_seeds(seed_text), read_count(each, "images")
        strength, warm = read_number(weight, "guidance"), read_number(warmth, "temperature", needed=True)
        assert warm is not None
        began, total = time.monotonic(), len(wanted) * images
        made: list[Panel] = []
        for name in names:
            yield {status: _busy(models, name, f"0 of {counted(total, 'image')}")}
            drawn: list[tuple[Drawing, str]] = []
            for part in models.draw(name, text, wanted, images, guidance=strength, temperature=warm):
                drawn += [(one_image, files.add(one_image.image)) for one_image in part]
                shown = (name, figures(drawn, several=images > 1))
                yield {
                    results: panels([*made, shown]),
                    status: _busy(models, name, f"{len(drawn)} of {counted(total, 'image')}"),
                }
            made.append(shown)
        sampling = _options(count=images, guidance=strength, temperature=None if warm == 1 else warm)
        commands = [
            ["pairuni", "draw", text, "--model", name, "--seed", str(seed), *sampling, "--out", "image.png"]
            for name in names
            for seed in wanted
        ]
        what = counted(len(names) * total, "image")
        yield {status: done(what, time.monotonic() - began, commands)}

    inputs = [prompt, first, second, seeds, count, guidance, temperature]
    _connect(go, stop, prompt, status, draw, inputs, [results, status])


def ask_tab(models: Models, files: DrawingFiles) -> None:
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            images, refused = pictures(), html()
            question = gr.Textbox("", label="Question", lines=2, placeholder="What to ask about the images")
            first, second = _model_choices(models)
            tokens = gr.Textbox("", label="Tokens of the answer, at most", placeholder=OWN)
            go, stop = _buttons("Ask")
        with gr.Column(scale=2, min_width=280):
            status, results = html(), html()
    check_uploads(images, refused, files)

    def ask(
        shown: list[dict[str, Any]] | None, text: str, one: str, other: str, most: str
    ) -> Iterator[Changes]:
        yield {status: said("Waiting for the model …"), results: ""}
        names, limit = _chosen(one, other), read_count(most, "tokens") if most.strip() else None
        paths = [Path(upload["path"]) for upload in uploads_of(shown)]
        check_shown(len(paths))
        given = [
            opened(path, f"Image {number}" if len(paths) > 1 else "The image")
            for number, path in enumerate(paths, start=1)
        ]
        began = time.monotonic()
        made: list[Panel] = []
        answered: list[str] = []
        for name in names:
            yield {status: _busy(models, name, "answering")}
            try:
                made.append((name, reply(models.answer(name, given, text, max_new_tokens=limit))))
                answered.append(name)
            except CannotShowSeveral as error:  # beside a model that can
                made.append((name, fault(error)))
            yield {results: panels(made)}
        sampling = _options(max_new_tokens=limit)
        words = ["IMAGE"] if len(given) == 1 else [f"IMAGE{number}" for number in range(1, len(given) + 1)]
        commands = [["pairuni", "answer", *words, text, "--model", name, *sampling] for name in answered]
        what = counted(len(answered), "answer")
        yield {status: done(what, time.monotonic() - began, commands) if answered else ""}

    _connect(go, stop, question, status, ask, [images, question, first, second, tokens], [results, status])


def edit_tab(models: Models, editors: Sequence[str], files: DrawingFiles) -> None:
    """editors: the models that can edit."""
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            image, refused = picture(), html()
            instruction = gr.Textbox("", label="Instruction", lines=2, placeholder="What to change")
            model = gr.Dropdown(list(editors), value=editors[0], label="Model", visible=len(editors) > 1)
            with gr.Row():
                seeds = gr.Textbox("0", label="Seeds", info="such as 0, 3 or 0-3", min_width=120)
                temperature = gr.Textbox("1", label="Temperature", info="0: greedy", min_width=120)
            with gr.Row():
                guidance = gr.Textbox("", label="Guidance", info="1: none", placeholder=OWN, min_width=120)
                image_guidance = gr.Textbox(
                    "", label="Image guidance", info="1: none", placeholder=OWN, min_width=120
                )
            go, stop = _buttons("Edit")
        with gr.Column(scale=2, min_width=280):
            status, results = html(), html()
    check_upload(image, refused)

    def edit(
        uploaded: Upload | None,
        text: str,
        name: str,
        seed_text: str,
        warmth: str,
        weight: str,
        image_weight: str,
    ) -> Iterator[Changes]:
        yield {status: said("Waiting for the model …"), results: ""}
        wanted, warm = read_seeds(seed_text), read_number(warmth, "temperature", needed=True)
        assert warm is not None
        strengths = {
            "guidance": read_number(weight, "guidance"),
            "image_guidance": read_number(image_weight, "image guidance"),
        }
        path = path_of(uploaded)
        given = None if path is None else opened(path)
        began = time.monotonic()
        yield {status: _busy(models, name, f"0 of {counted(len(wanted), 'image')}")}
        drawn: list[tuple[Drawing, str]] = []
        for one in models.edit(name, given, text, wanted, temperature=warm, **strengths):
            drawn.append((one, files.add(one.image)))
            yield {
                results: panels([(name, figures(drawn, several=False))]),
                status: _busy(models, name, f"{len(drawn)} of {counted(len(wanted), 'image')}"),
            }
        sampling = _options(**strengths, temperature=None if warm == 1 else warm)
        commands = [
            [
                "pairuni",
                "edit",
                "IMAGE",
                text,
                "--model",
                name,
                "--seed",
                str(seed),
                *sampling,
                "--out",
                "image.png",
            ]
            for seed in wanted
        ]
        yield {status: done(counted(len(wanted), "image"), time.monotonic() - began, commands)}

    inputs = [image, instruction, model, seeds, temperature, guidance, image_guidance]
    _connect(go, stop, instruction, status, edit, inputs, [results, status])


def _connect(
    go: gr.Button,
    stop: gr.Button,
    text: gr.Textbox,
    status: gr.HTML,
    work: Callable[..., Iterator[Changes]],
    inputs: list[Any],
    outputs: list[Any],
) -> None:
    """Run ``work`` by the button or Enter, until it ends or Stop is pressed."""
    running = gr.on(
        [go.click, text.submit],
        guarded(work, status),
        inputs,
        outputs,
        api_name=work.__name__,
        preprocess=False,
        **ONE_AT_A_TIME,
    )
    stop.click(lambda: said("Stopped."), None, status, cancels=[running], **AT_ONCE)


def _model_choices(models: Models) -> tuple[gr.Dropdown, gr.Dropdown]:
    """The model, and one to compare it with; both are hidden if there is nothing to choose."""
    names = models.names
    first = gr.Dropdown(names, value=names[0], label="Model", visible=len(names) > 1)
    second = gr.Dropdown(
        [NO_MODEL, *names],
        value=names[1] if len(names) > 1 else NO_MODEL,
        label="Compare with",
        visible=len(names) > 1,
    )
    return first, second


def _chosen(one: str, other: str) -> list[str]:
    return [one] if other in (NO_MODEL, one) else [one, other]


def _buttons(name: str) -> tuple[gr.Button, gr.Button]:
    with gr.Row():
        return gr.Button(name, variant="primary", min_width=120), gr.Button("Stop", min_width=80)


def _busy(models: Models, name: str, what: str) -> str:
    return said(f"{name}: {what if models.is_loaded(name) else 'loading'} …")


def _options(**values: float | None) -> list[str]:
    return [
        word
        for name, value in values.items()
        if value is not None
        for word in (f"--{name.replace('_', '-')}", f"{value:g}")
    ]

"""The tabs Draw, Ask and Edit."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from pairuni.app.components import Changes, buttons, connect, fault, html, said
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

NO_MODEL = "none"
OWN = "the model's own"


def draw_tab(models: Models, files: DrawingFiles) -> None:
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            prompt = _words("Prompt", "What the image shows")
            first, second = _model_choices(models)
            with gr.Row():
                seeds = gr.Textbox("0", label="Seeds", info="such as 0, 3 or 0-3", min_width=120)
                count = gr.Textbox("4", label="Images per seed", info="1 to 16", min_width=120)
            with gr.Row():
                guidance = gr.Textbox("", label="Guidance", info="1: none", placeholder=OWN, min_width=120)
                temperature = gr.Textbox("1", label="Temperature", info="0: greedy", min_width=120)
            go, stop = buttons("Draw")
        with gr.Column(scale=2, min_width=280):
            status, results = html(), html()

    def draw(
        text: str, one: str, other: str, seed_text: str, each: str, weight: str, warmth: str
    ) -> Iterator[Changes]:
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
        commands = _image_commands(["draw", text], names, wanted, sampling)
        what = counted(len(names) * total, "image")
        yield {status: done(what, time.monotonic() - began, commands)}

    inputs = [prompt, first, second, seeds, count, guidance, temperature]
    connect(go, stop, status, draw, inputs, [results, status])


def ask_tab(models: Models, files: DrawingFiles) -> None:
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            images, refused = pictures(), html()
            question = _words("Question", "What to ask about the images")
            first, second = _model_choices(models)
            tokens = gr.Textbox("", label="Tokens of the answer, at most", placeholder=OWN)
            go, stop = buttons("Ask")
        with gr.Column(scale=2, min_width=280):
            status, results = html(), html()
    check_uploads(images, refused, files)

    def ask(
        shown: list[dict[str, Any]] | None, text: str, one: str, other: str, most: str
    ) -> Iterator[Changes]:
        from pairuni.policies.requests import CannotShowSeveral

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

    connect(go, stop, status, ask, [images, question, first, second, tokens], [results, status])


def edit_tab(models: Models, editors: Sequence[str], files: DrawingFiles) -> None:
    """editors: the models that can edit."""
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            image, refused = picture(), html()
            instruction = _words("Instruction", "What to change")
            model = gr.Dropdown(list(editors), value=editors[0], label="Model", visible=len(editors) > 1)
            with gr.Row():
                seeds = gr.Textbox("0", label="Seeds", info="such as 0, 3 or 0-3", min_width=120)
                temperature = gr.Textbox("1", label="Temperature", info="0: greedy", min_width=120)
            with gr.Row():
                guidance = gr.Textbox("", label="Guidance", info="1: none", placeholder=OWN, min_width=120)
                image_guidance = gr.Textbox(
                    "", label="Image guidance", info="1: none", placeholder=OWN, min_width=120
                )
            go, stop = buttons("Edit")
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
        commands = _image_commands(["edit", "IMAGE", text], [name], wanted, sampling)
        yield {status: done(counted(len(wanted), "image"), time.monotonic() - began, commands)}

    inputs = [image, instruction, model, seeds, temperature, guidance, image_guidance]
    connect(go, stop, status, edit, inputs, [results, status])


def _words(label: str, placeholder: str) -> gr.Textbox:
    """A field that grows with its text. With more than one line from the start, Enter would not submit it."""
    return gr.Textbox("", label=label, placeholder=placeholder, lines=1, max_lines=8)


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


def _busy(models: Models, name: str, what: str) -> str:
    return said(f"{name}: {what if models.is_loaded(name) else 'loading'} …")


def _image_commands(
    begin: Sequence[str], names: Sequence[str], seeds: Sequence[int], options: Sequence[str]
) -> list[list[str]]:
    """The command of each model and seed, each with an output of its own."""
    commands = []
    for number, name in enumerate(names, start=1):
        for seed in seeds:
            out = "image" + f"-model-{number}" * (len(names) > 1) + f"-seed-{seed}" * (len(seeds) > 1)
            commands.append(
                ["pairuni", *begin, "--model", name, "--seed", str(seed), *options, "--out", f"{out}.png"]
            )
    return commands


def _options(**values: float | None) -> list[str]:
    return [
        word
        for name, value in values.items()
        if value is not None
        for word in (f"--{name.replace('_', '-')}", f"{value:g}")
    ]

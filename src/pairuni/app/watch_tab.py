"""The tab Watch: runs, finished or training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from pairuni.app.components import AT_ONCE, Changes, fault, html
from pairuni.app.run_watch import RunWatch
from pairuni.console.sentences import EXPECTED

NEWEST = "newest"
SECONDS = 2.0
"""Time between two looks at a run."""


def watch_tab(page: gr.Blocks, watches: Sequence[RunWatch]) -> None:
    names = [str(one.folder.root) for one in watches]
    by_name = dict(zip(names, watches, strict=True))
    with gr.Row():
        run = gr.Dropdown(names, value=names[0], label="Run", min_width=200, scale=2, visible=len(names) > 1)
        step = gr.Dropdown([NEWEST], value=NEWEST, label="Samples of step", min_width=150)
        live = gr.Checkbox(True, label="Update while it trains", min_width=150, scale=3)
    status, curves, samples, held_out = html(), html(), html(), html()
    parts = {"curves": curves, "samples": samples, "held_out": held_out}
    seen = gr.State({})
    timer = gr.Timer(SECONDS)

    def look(name: str, wanted: Any, before: dict[str, Any]) -> Changes:
        try:
            found = by_name[name].look(None if wanted == NEWEST else wanted)
        except EXPECTED as error:
            return {status: fault(error)}
        now = {"run": name, "steps": found.sample_steps} | {part: getattr(found, part) for part in parts}
        old = before if before.get("run") == name else {}
        changed: Changes = {status: found.status, seen: now}
        changed |= {shown: now[part] for part, shown in parts.items() if old.get(part) != now[part]}
        if old.get("steps") != found.sample_steps:
            choices = [NEWEST, *reversed(found.sample_steps)]
            changed[step] = gr.Dropdown(choices, value=wanted if wanted in choices else NEWEST)
        return changed

    shown = [status, curves, samples, held_out, step, seen]
    gr.on([page.load, timer.tick, run.input, step.input], look, [run, step, seen], shown, **AT_ONCE)
    live.input(lambda on: gr.Timer(active=on), live, timer, **AT_ONCE)

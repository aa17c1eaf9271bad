"""Small tasks for the tests of sampling and scoring."""

from __future__ import annotations

from typing import Any

import torch

from pairuni.policies.lumina_dimoo.prompts import Canvas, LuminaPrompts, Prompt
from pairuni.policies.lumina_dimoo.schedule import picture_steps, text_steps
from pairuni.policies.lumina_dimoo.traces import Task
from tiny_lumina import IDS, plain_tokenizer

PROMPTS = LuminaPrompts(plain_tokenizer(), IDS)
"""Only for canvases; its texts do not fit the small vocabulary."""


def text_task(prompt: list[int], length: int, block: int, steps: int, **settings: Any) -> Task:
    settings = {"temperature": 1.0, "noise": (0, 0), **settings}
    return Task(
        kind="text",
        prompt=Prompt(torch.tensor(prompt)),
        canvas=PROMPTS.text_canvas(length),
        steps=text_steps(length, block, steps),
        **settings,
    )


def picture_task(
    prompt: list[int],
    height: int,
    width: int,
    steps: int,
    unconditional: tuple[tuple[list[int], float], ...] = (),
    **settings: Any,
) -> Task:
    settings = {"temperature": 1.0, "noise": (0, 1), **settings}
    return Task(
        kind="codes",
        prompt=Prompt(torch.tensor(prompt), tuple((torch.tensor(ids), one) for ids, one in unconditional)),
        canvas=PROMPTS.picture_canvas(height, width),
        steps=picture_steps(height * width, steps),
        **settings,
    )


def mixed_tasks() -> list[Task]:
    """Texts and pictures of several lengths, temperatures, guidances and branches."""
    return [
        text_task([1, 2, 3], 6, 3, 4, noise=(5, 0, 0)),
        picture_task([4, 5], 2, 3, 4, (([36], 3.0),), noise=(5, 1, 0)),
        text_task([7, 34, 41, 31, 35, 8, 9], 4, 4, 2, temperature=0.6, noise=(5, 0, 1)),
        picture_task([6, 5, 4], 3, 2, 3, (([1, 36], 1.5), ([2], 2.0)), temperature=0.8, noise=(5, 1, 1)),
        picture_task([2, 2, 2], 2, 2, 2, (([36], 2.0),), branch="conditional", noise=(5, 1, 2)),
        picture_task([9], 2, 2, 3, noise=(5, 1, 3)),
        text_task([3, 1], 4, 2, 2, temperature=0.0, noise=(5, 0, 2)),
    ]


def canvas_row(canvas: Canvas) -> list[int]:
    found: list[int] = canvas.ids.tolist()
    return found

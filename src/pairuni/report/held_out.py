"""The held-out items that a run was looked at on while it trained: evaluation/step-*.json."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import Field

from pairuni.report.charts import Series, line_chart, number
from pairuni.report.images import picture
from pairuni.report.markup import escape
from pairuni.report.reading import Count, Number, Part, checked, read_json

Item = TypeVar("Item")

SHOWN_STEPS = 6
SHOWN_ITEMS = 6


class LookItem(Part):
    """One held-out item at one step: a question answered, or a prompt drawn. image: relative to the run's folder.

    reward: what it earned; correct: whether it was right, where the evaluation says that alone.
    """

    image: str = ""
    prompt: str = ""
    question: str = ""
    answer: str = ""
    reply: str = ""
    reward: Number | None = None
    correct: bool | None = None

    @property
    def earned(self) -> str:
        if self.reward is not None:
            return number(self.reward)
        return {True: "✓", False: "✗", None: ""}[self.correct]


class LookedTask(Part):
    """Mean over the items of a task, and those items."""

    score: Number
    items: list[LookItem] = Field(default_factory=list)


class Look(Part):
    """Both tasks after one step; step 0 is the untouched policy."""

    step: Count
    understanding: LookedTask
    generation: LookedTask


def read_looks(folder: Path) -> list[Look]:
    """The looks of a run's folder, by step. Raises ValueError naming a file that cannot be read."""
    looks = []
    for path in folder.glob("evaluation/step-*.json"):
        step = path.stem.removeprefix("step-")
        if not (step.isascii() and step.isdecimal() and len(step) < 16):
            raise ValueError(
                f"{path}: its name holds no step; evaluations of a run are called step-000100.json"
            )
        looks.append(checked(Look, {**read_json(path), "step": int(step)}, path))
    return sorted(looks, key=lambda look: look.step)


def body(folder: Path, looks: Sequence[Look]) -> str:
    """Scores over the steps, then the same prompts and questions at several of them."""
    steps = [float(look.step) for look in looks]
    drawn = [
        line_chart(
            Series(
                "Understanding, held out",
                steps,
                [look.understanding.score for look in looks],
                "understanding",
            )
        ),
        line_chart(
            Series("Generation, held out", steps, [look.generation.score for look in looks], "generation")
        ),
    ]
    shown = spread(looks, SHOWN_STEPS)
    pictures = "".join(_drawings(folder, shown, row) for row in _imaged(looks[-1].generation))
    answers = "".join(_answers(folder, shown, row) for row in _imaged(looks[-1].understanding))
    return (
        f'<div class="charts">{"".join(drawn)}</div>'
        f'<ol class="rollouts">{pictures}</ol><ol class="answers">{answers}</ol>'
    )


def spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most ``most`` items, evenly spread over the sequence, first and last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(index * (len(items) - 1) / (most - 1))] for index in range(most)]


def _imaged(task: LookedTask) -> list[int]:
    return spread([row for row, item in enumerate(task.items) if item.image], SHOWN_ITEMS)


def _same(tasks: Sequence[tuple[int, LookedTask]], row: int) -> list[tuple[int, LookItem]]:
    """The item of this row at each step, as far as it is the one of the last step."""
    last = tasks[-1][1].items[row]
    return [
        (step, task.items[row])
        for step, task in tasks
        if row < len(task.items)
        and (task.items[row].prompt, task.items[row].question) == (last.prompt, last.question)
    ]


def _drawings(folder: Path, looks: Sequence[Look], row: int) -> str:
    items = _same([(look.step, look.generation) for look in looks], row)
    figures = "".join(
        f"<figure>{picture(folder, item.image, f'after step {step}: {item.prompt}')}"
        f"<figcaption>step {step}<br>{item.earned}</figcaption></figure>"
        for step, item in items
    )
    return f'<li><p>{escape(items[0][1].prompt)}</p><div class="strip">{figures}</div></li>'


def _answers(folder: Path, looks: Sequence[Look], row: int) -> str:
    items = _same([(look.step, look.understanding) for look in looks], row)
    first = items[0][1]
    replies = "".join(
        f"<dt>step {step}: {item.earned}</dt><dd>{escape(item.reply.strip()) or '<i>nothing</i>'}</dd>"
        for step, item in items
    )
    return (
        f'<li class="asked">{picture(folder, first.image, "the picture asked about")}<div>'
        f"<p>{escape(first.question)}</p><dl><dt>truth</dt><dd>{escape(first.answer)}</dd>{replies}</dl></div></li>"
    )

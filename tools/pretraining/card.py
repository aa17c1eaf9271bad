"""Tables and texts that the model cards share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pairuni.intervals import wilson_interval
from tools.pretraining.lessons import Stage

DATA = """\
Images of {size}x{size} pixels composed of the 1,797 handwritten digits of scikit-learn (from the UCI "Optical
Recognition of Handwritten Digits" set, CC BY 4.0): 1,400 scans for training, 397 held out. Scenes and prompts
are split by a hash of their text, 80% for training. No stage uses held-out data."""

StageRow = tuple[str, int, int | str, int, float | None]
"""Name, steps, batch, seed and seconds of a stage."""


def language_rows(stages: Sequence[Stage], batch: int, seed: int, seconds: float) -> list[StageRow]:
    """The stages of the curriculum and their sum; the batch is of each task."""
    return [
        *((f"language model: {one.name}", one.steps, f"{batch} + {batch}", seed, None) for one in stages),
        ("language model, all", sum(one.steps for one in stages), "", seed, seconds),
    ]


def stage_table(rows: Sequence[StageRow]) -> str:
    """The lines of a table of stages, without its head."""
    return "\n".join(
        f"| {name} | {steps} | {batch} | {seed} | {'' if seconds is None else f'{seconds:.0f}'} |"
        for name, steps, batch, seed, seconds in rows
    )


def score_table(scores: Mapping[str, tuple[float, int]]) -> str:
    """The lines of a table of scores with 95% Wilson intervals, without its head.

    scores: task -> share of correct items, and number of items.
    """
    lines = []
    for task, (score, items) in scores.items():
        low, high = wilson_interval(score, items)
        lines.append(f"| {task} | {100 * score:.1f}% | {100 * low:.1f} to {100 * high:.1f}% |")
    return "\n".join(lines)

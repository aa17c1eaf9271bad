"""Sections about training: reward curves, held-out evaluations, rollouts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pairuni.records import TASKS, Task
from pairuni.report.charts import Series, line_chart, number
from pairuni.report.images import image_tag
from pairuni.report.markup import escape, section
from pairuni.report.statistics import evenly_spaced
from pairuni.runs.evaluations import Item, StepScores
from pairuni.runs.metrics import series
from pairuni.runs.run import Run
from pairuni.runs.samples import Sample

SIGNALS = (
    ("grad_norm", "Gradient norm"),
    ("frac_reward_zero_std", "Zero-variance groups, share"),
    ("clip_ratio/region_mean", "Clipped tokens, share"),
    ("understanding/completions/mean_length", "Answer length, tokens"),
    ("kl", "KL to the reference"),
    ("tokens_per_second", "Tokens per second"),
)
"""Metrics with small charts below the rewards."""
SHOWN_STEPS = 6
SHOWN_ITEMS = 6
SHOWN_SAMPLES = 6


def rewards(run: Run) -> str:
    charts = []
    curves = {task: series(run.metrics, f"{task}/reward") for task in TASKS}
    within = all(0.0 <= value <= 1.0 for _, values in curves.values() for value in values)
    for task, (steps, values) in curves.items():
        if values:
            limits = (0.0, 1.0) if within else (None, None)
            charts.append(
                line_chart(Series(f"{task.capitalize()} reward", steps, values, task, limits[0], limits[1]))
            )
    if not charts:
        return ""
    small = []
    for key, title in SIGNALS:
        steps, values = series(run.metrics, key)
        if values:
            small.append(line_chart(Series(title, steps, values, "signal", low=0.0, small=True)))
    signals = f'<h3>Training metrics</h3><div class="small-charts">{"".join(small)}</div>' if small else ""
    body = f'<div class="charts">{"".join(charts)}</div>{signals}'
    note = (
        "Mean reward of the rollouts of each step, on training pairs. Faint: each step; bold: smoothed. "
        "Point at a curve, or focus it and use the arrow keys, to read values."
    )
    return section("rewards", "Reward during training", body, note)


def held_out(run: Run) -> str:
    evaluations = run.step_evaluations
    if not evaluations:
        return ""
    scores: dict[Task, list[tuple[int, StepScores]]] = {
        "understanding": [(one.step, one.understanding) for one in evaluations],
        "generation": [(one.step, one.generation) for one in evaluations],
    }
    curves = "".join(
        line_chart(
            Series(
                f"{task.capitalize()}, held out",
                [float(step) for step, _ in scores[task]],
                [one.score for _, one in scores[task]],
                task,
            )
        )
        for task in TASKS
    )
    items = {task: _items_by_step(evenly_spaced(scores[task], SHOWN_STEPS)) for task in TASKS}
    images = "".join(_images_by_step(run.folder.root, item) for item in items["generation"])
    answers = "".join(_answers_by_step(run.folder.root, item) for item in items["understanding"])
    body = (
        f'<div class="charts">{curves}</div>'
        f'<ol class="rollouts">{images}</ol><ol class="answers">{answers}</ol>'
    )
    note = (
        "Items that are not in the training data; step 0 is the untrained policy. "
        "Images are sampled with the same noise at every step."
    )
    return section("held-out", "Held-out evaluation during training", body, note)


def rollouts(run: Run) -> str:
    rows = [row for row in run.samples if row.images or row.answers]
    if not rows:
        return ""
    chosen = _first_and_last(rows)
    body = "".join(_rollout(run.folder.samples, row) for row in chosen)
    note = (
        "Groups of rollouts from the first and the last saved step, with their rewards. "
        "Only differences within a group change the policy."
    )
    return section("rollouts", "Rollouts", f'<ol class="rollouts">{body}</ol>', note)


def _first_and_last(rows: Sequence[Sample]) -> list[Sample]:
    """Rows of the first and the last step that have images, and of those that have answers, by step."""
    steps = set()
    for shown in ([row.step for row in rows if row.images], [row.step for row in rows if row.answers]):
        steps |= {min(shown), max(shown)} if shown else set()
    most = -(-SHOWN_SAMPLES // len(steps))
    return [row for step in sorted(steps) for row in [one for one in rows if one.step == step][:most]]


def _items_by_step(scores: Sequence[tuple[int, StepScores]]) -> list[list[tuple[int, Item]]]:
    """Evenly spaced items with images; for each, the steps whose evaluation has it at the same index."""
    last = scores[-1][1].items
    chosen = evenly_spaced([row for row, item in enumerate(last) if item.image], SHOWN_ITEMS)
    return [
        [
            (step, item)
            for step, one in scores
            for item in one.items[row : row + 1]
            if (item.prompt, item.question) == (last[row].prompt, last[row].question)
        ]
        for row in chosen
    ]


def _images_by_step(root: Path, items: Sequence[tuple[int, Item]]) -> str:
    figures = "".join(
        f"<figure>{image_tag(root, item.image, f'after step {step}: {item.prompt}')}"
        f"<figcaption>step {step}<br>{_score(item)}</figcaption></figure>"
        for step, item in items
    )
    return f'<li><p>{escape(items[0][1].prompt)}</p><div class="strip">{figures}</div></li>'


def _answers_by_step(root: Path, items: Sequence[tuple[int, Item]]) -> str:
    first = items[0][1]
    replies = "".join(
        f"<dt>step {step}: {_score(item)}</dt><dd>{escape(item.reply.strip()) or '<i>nothing</i>'}</dd>"
        for step, item in items
    )
    return (
        f'<li class="question">{image_tag(root, first.image, "the image of the question")}<div>'
        f"<p>{escape(first.question)}</p><dl><dt>expected</dt><dd>{escape(first.answer)}</dd>{replies}</dl></div></li>"
    )


def _score(item: Item) -> str:
    if item.reward is not None:
        return number(item.reward)
    return {True: "✓", False: "✗", None: ""}[item.correct]


def _rollout(samples: Path, row: Sample) -> str:
    images = "".join(
        f"<figure>{image_tag(samples, one.image, 'rollout for the prompt: ' + row.prompt)}"
        f"<figcaption>{_reward(one.reward)}</figcaption></figure>"
        for one in row.images
    )
    answers = "".join(
        f"<li><b>{_reward(one.reward)}</b> {escape(one.text.strip()) or '<i>nothing</i>'}</li>"
        for one in row.answers
    )
    shown = f'<li><p class="tag">step {row.step} · similarity {row.similarity:.2f}</p>'
    if images:
        shown += f'<p>{escape(row.prompt)}</p><div class="strip">{images}</div>'
    if answers:
        question = escape(f"{row.question} — expected: {row.answer}")
        shown += f'<p>{question}</p><ul class="replies">{answers}</ul>'
    return shown + "</li>"


def _reward(reward: float | None) -> str:
    return "" if reward is None else number(reward)

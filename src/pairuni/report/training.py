"""Sections about training: reward curves, held-out evaluations, rollouts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pairuni.records import TASKS, Task
from pairuni.report.axes import number
from pairuni.report.curves import SMOOTHING, Line, line_chart
from pairuni.report.images import image_tag
from pairuni.report.markup import escape, section
from pairuni.report.statistics import evenly_spaced
from pairuni.runs.evaluations import Item, StepScores
from pairuni.runs.metrics import series
from pairuni.runs.run import Run
from pairuni.runs.samples import Sample

SIGNALS = (
    ("loss", "Loss"),
    ("kl", "KL to the reference"),
    ("learning_rate", "Learning rate"),
    ("grad_norm", "Gradient norm"),
    ("frac_reward_zero_std", "Zero-variance groups, share"),
    ("clip_ratio/region_mean", "Clipped tokens, share"),
    ("understanding/completions/mean_length", "Answer length, tokens"),
    ("tokens_per_second", "Tokens per second"),
)
"""Metrics with small charts below the rewards."""
LOSS = "With one update per step, the loss is about 0 whatever the policy learns: the advantages of a group sum to 0. "
READING = "Point at a curve, or focus it and use the arrow keys, to read values."
SHOWN_STEPS = 6
SHOWN_ITEMS = 6
SHOWN_SAMPLES = 8
SHOWN_ROLLOUTS = 12


def rewards(run: Run) -> str:
    charts = []
    curves = {task: series(run.metrics, f"{task}/reward") for task in TASKS}
    within = all(0.0 <= value <= 1.0 for _, values in curves.values() for value in values)
    low, high = (0.0, 1.0) if within else (None, None)
    for task, (steps, values) in curves.items():
        if values:
            charts.append(
                line_chart(
                    f"{task.capitalize()} reward", [Line(steps, values)], tone=task, low=low, high=high
                )
            )
    if not charts:
        return ""
    small = []
    for key, title in SIGNALS:
        steps, values = series(run.metrics, key)
        if values:
            small.append(line_chart(title, [Line(steps, values)], tone="signal", low=0.0, small=True))
    signals = (
        f'<h3>Training metrics</h3><p class="note">{escape(LOSS + _kl_note(run))}</p>'
        f'<div class="small-charts">{"".join(small)}</div>'
        if small
        else ""
    )
    body = f'<div class="charts">{"".join(charts)}</div>{signals}'
    note = f"Mean reward of the rollouts of each step, on training pairs. {SMOOTHING} {READING}"
    return section("rewards", "Reward during training", body, note)


def held_out_curves(run: Run) -> dict[str, tuple[list[float], list[float]]]:
    """Name of each held-out score during training -> its steps and values; of metrics.jsonl, else of evaluation/."""
    names = dict.fromkeys(key for row in run.metrics for key in row.values if key.startswith("eval/"))
    curves = {name.removeprefix("eval/"): series(run.metrics, name) for name in names}
    for task in TASKS:
        if task not in curves:
            scores = [(float(one.step), one.task(task).score) for one in run.step_evaluations]
            curves[task] = ([step for step, _ in scores], [score for _, score in scores])
    return {name: curve for name, curve in curves.items() if curve[1]}


def held_out(run: Run) -> str:
    curves = held_out_curves(run)
    if not curves:
        return ""
    charts = "".join(
        line_chart(f"{name.capitalize()}, held out", [Line(steps, values)], tone=tone_of(name))
        for name, (steps, values) in curves.items()
    )
    body = f'<div class="charts">{charts}</div>{_items(run, "generation")}{_items(run, "understanding")}'
    note = (
        "Items that are not in the training data; step 0 is the untrained policy. "
        "Images are sampled with the same noise at every step."
    )
    return section("held-out", "Held-out evaluation during training", body, note)


def tone_of(name: str) -> str:
    """The class of a curve's colour."""
    return name if name in TASKS else "signal"


def rollouts(run: Run) -> str:
    rows = [row for row in run.samples if row.images or row.answers]
    if not rows:
        return ""
    chosen = _first_and_last(rows)
    note = (
        f"Groups of rollouts from the first and the last saved step, {len(chosen):,} of {len(rows):,}, with their "
        "rewards. Only differences within a group change the policy."
    )
    return section("rollouts", "Rollouts", rollout_groups(run.folder.samples, chosen), note)


def rollout_groups(samples: Path, rows: Sequence[Sample]) -> str:
    """The rollouts of pairs, with their rewards. samples: the folder of their images."""
    return f'<ol class="rollouts">{"".join(_rollout(samples, row) for row in rows)}</ol>'


def _kl_note(run: Run) -> str:
    measured = bool(series(run.metrics, "kl")[1])
    return "" if measured else "KL to the reference is measured if pairgrpo.beta is above 0."


def _first_and_last(rows: Sequence[Sample]) -> list[Sample]:
    """Rows of the first and the last step that have images, and of those that have answers, by step."""
    steps = set()
    for shown in ([row.step for row in rows if row.images], [row.step for row in rows if row.answers]):
        steps |= {min(shown), max(shown)} if shown else set()
    most = -(-SHOWN_SAMPLES // len(steps))
    return [row for step in sorted(steps) for row in [one for one in rows if one.step == step][:most]]


def _items(run: Run, task: Task) -> str:
    """A selection of the items of a task that have images, at a selection of the evaluations."""
    if not run.step_evaluations:
        return ""
    shown = evenly_spaced([(one.step, one.task(task)) for one in run.step_evaluations], SHOWN_STEPS)
    last = shown[-1][1].items
    imaged = [row for row, item in enumerate(last) if item.image]
    chosen = evenly_spaced(imaged, SHOWN_ITEMS)
    if not chosen:
        return ""
    name, card, kind = {
        "generation": ("Images", _images_by_step, "rollouts"),
        "understanding": ("Answers", _answers_by_step, "answers"),
    }[task]
    cards = "".join(card(run.folder.root, _by_step(shown, row)) for row in chosen)
    of = f"{len(chosen):,} of {len(imaged):,} items, at {len(shown):,} of {len(run.step_evaluations):,} evaluations"
    return f'<h3>{name} <small>{of}</small></h3><ol class="{kind}">{cards}</ol>'


def _by_step(scores: Sequence[tuple[int, StepScores]], row: int) -> list[tuple[int, Item]]:
    """An item of the last evaluation at the steps whose evaluation has it at the same index."""
    last = scores[-1][1].items[row]
    return [
        (step, item)
        for step, one in scores
        for item in one.items[row : row + 1]
        if (item.prompt, item.question) == (last.prompt, last.question)
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
        for one in row.images[:SHOWN_ROLLOUTS]
    )
    answers = "".join(
        f"<li><b>{_reward(one.reward)}</b> {escape(one.text.strip()) or '<i>nothing</i>'}</li>"
        for one in row.answers[:SHOWN_ROLLOUTS]
    )
    shown = f'<li><p class="tag">step {row.step} · similarity {row.similarity:.2f}</p>'
    if images:
        shown += f'<p>{escape(row.prompt)}{_shown_of(row.images)}</p><div class="strip">{images}</div>'
    if answers:
        question = escape(f"{row.question} — expected: {row.answer}")
        shown += f'<p>{question}{_shown_of(row.answers)}</p><ul class="replies">{answers}</ul>'
    return shown + "</li>"


def _shown_of(rollouts: Sequence[object]) -> str:
    """How many rollouts of a group are shown, if not all are."""
    count = len(rollouts)
    return f" <small>{SHOWN_ROLLOUTS} of {count:,} rollouts</small>" if count > SHOWN_ROLLOUTS else ""


def _reward(reward: float | None) -> str:
    return "" if reward is None else number(reward)

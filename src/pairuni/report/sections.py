"""The sections of a report; each returns HTML, or "" when the run has nothing to show there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pairuni.config import RunSettings, Settings
from pairuni.intervals import wilson_interval
from pairuni.records import UGPair
from pairuni.report.charts import Series, histogram, line_chart, number
from pairuni.report.held_out import body as look_body
from pairuni.report.held_out import spread
from pairuni.report.images import picture
from pairuni.report.markup import escape, placed
from pairuni.report.run import (
    TASKS,
    Item,
    KindScore,
    MetricsRow,
    Run,
    Said,
    SampleRow,
    Shot,
    Task,
    TaskScores,
)
from pairuni.report.statistics import paired_difference

WHAT = {"understanding": "questions answered right", "generation": "images drawn right"}
EVENLY = "Where a group is too large to show: some of it, taken at even distances, not chosen."
SIGNALS = (
    ("grad_norm", "Gradient norm"),
    ("frac_reward_zero_std", "Groups without spread"),
    ("clip_ratio/region_mean", "Clipped tokens, share"),
    ("understanding/completions/mean_length", "Answer length, tokens"),
    ("kl", "KL to the reference"),
    ("tokens_per_second", "Tokens a second"),
)
"""Metrics shown small, below the rewards."""


def headline(run: Run) -> str:
    cards = [_headline_card(task, run.before.task(task), run.after.task(task)) for task in TASKS]
    if not any(cards):
        return ""
    note = (
        "Held-out items; whiskers are 95% Wilson intervals."
        if "whisker" in "".join(cards)
        else "Held-out items."
    )
    return _section("result", "Result", f'<div class="cards">{"".join(cards)}</div>', note)


def rewards(run: Run) -> str:
    drawn = []
    series = {task: _series(run.metrics, f"{task}/reward") for task in TASKS}
    within = all(0.0 <= value <= 1.0 for _, values in series.values() for value in values)
    for task, (steps, values) in series.items():
        if values:
            limits = (0.0, 1.0) if within else (None, None)
            drawn.append(
                line_chart(Series(f"{task.capitalize()} reward", steps, values, task, limits[0], limits[1]))
            )
    if not drawn:
        return ""
    small = []
    for key, title in SIGNALS:
        steps, values = _series(run.metrics, key)
        if values:
            small.append(line_chart(Series(title, steps, values, "signal", low=0.0, small=True)))
    signals = (
        f'<h3>Signals of the update</h3><div class="small-charts">{"".join(small)}</div>' if small else ""
    )
    body = f'<div class="charts">{"".join(drawn)}</div>{signals}'
    note = (
        "Mean reward of each step's rollouts, on training pairs. Faint: each step; bold: smoothed. "
        "Point at a curve, or focus it and use the arrow keys, to read values."
    )
    return _section("rewards", "Reward while training", body, note)


def held_out(run: Run) -> str:
    if not run.looks:
        return ""
    note = (
        "Items that are not trained on, at the steps that the settings ask for; step 0 is the untouched policy. "
        "Images are drawn with the same noise at every step."
    )
    return _section("held-out", "Held out, while training", look_body(run.folder, run.looks), note)


def categories(run: Run) -> str:
    tables = [_category_table(task, run.before.task(task), run.after.task(task)) for task in TASKS]
    if not any(tables):
        return ""
    return _section(
        "categories",
        "By category",
        f'<div class="charts">{"".join(tables)}</div>',
        "Share of held-out items right, in per cent: above in grey before, below in colour after training.",
    )


def drawings(run: Run) -> str:
    def card(before: Item, after: Item) -> str:
        return (
            f'<li class="drawing"><p>{escape(after.prompt)}</p><div class="two">'
            f"{_drawn(run, before, 'before')}{_drawn(run, after, 'after')}</div></li>"
        )

    return _compared(
        run,
        "generation",
        "Images, before and after",
        "The same held-out prompts, drawn before and after training; below wrong ones, what the detector saw. "
        + EVENLY,
        card,
        "drawings",
    )


def answers(run: Run) -> str:
    def card(before: Item, after: Item) -> str:
        image = after.image or before.image
        shown = picture(run.folder, image, "the image asked about") if image else ""
        return (
            f'<li class="asked">{shown}<div><p>{escape(after.question)}</p><dl>'
            f"<dt>truth</dt><dd>{escape(after.answer)}</dd>"
            f"<dt>before</dt><dd>{_mark(before.correct)} {_reply(before)}</dd>"
            f"<dt>after</dt><dd>{_mark(after.correct)} {_reply(after)}</dd></dl></div></li>"
        )

    return _compared(
        run,
        "understanding",
        "Answers, before and after",
        "The same held-out questions, answered before and after training. " + EVENLY,
        card,
        "answers",
    )


def rollouts(run: Run) -> str:
    rows = [row for row in run.samples if row.pictures or row.answers]
    if not rows:
        return ""
    steps = sorted({row.step for row in rows})
    chosen = [row for step in dict.fromkeys((steps[0], steps[-1])) for row in rows if row.step == step][:6]
    body = "".join(_rollout(run.folder / "samples", row) for row in chosen)
    note = (
        "Groups of rollouts from the first and the last step saved, each with its reward; "
        "a group teaches by the differences within it."
    )
    return _section("rollouts", "Rollouts", f'<ol class="rollouts">{body}</ol>', note)


def pairs(run: Run) -> str:
    if not run.pairs:
        return ""
    retrieved = sorted((p for p in run.pairs if p.kind == "retrieved"), key=lambda pair: pair.similarity)
    aligned = [pair for pair in run.pairs if pair.kind == "aligned"]
    drawn = (
        histogram(
            [pair.similarity for pair in retrieved],
            title="Similarity of retrieved pairs",
            width=0.02 if retrieved[-1].similarity - retrieved[0].similarity < 0.3 else 0.05,
            unit="pairs",
        )
        if retrieved
        else ""
    )
    sample = [*spread(aligned, 4), *reversed(spread(retrieved, 8))]
    cards = "".join(_pair(run.pairs_folder, pair) for pair in sample)
    note = (
        f"{len(run.pairs):,} pairs: {len(aligned):,} aligned (one image on both sides, similarity 1) and "
        f"{len(retrieved):,} retrieved. Shown: some of each, evenly spread over similarity."
    )
    return _section("pairs", "The pairs", f'{drawn}<ol class="pairs">{cards}</ol>', note)


def settings(run: Run) -> str:
    if not run.config:
        return ""
    top = {key: value for key, value in run.config.items() if not isinstance(value, dict)}
    tables = [("run", top)] + [(key, value) for key, value in run.config.items() if isinstance(value, dict)]
    body = "".join(_settings_table(name, values) for name, values in tables if values)
    return _section(
        "settings", "Settings", f'<div class="settings">{body}</div>', "As resolved, from config.toml."
    )


def _section(name: str, title: str, body: str, note: str) -> str:
    return (
        f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{title}</h2>'
        f'<p class="note">{escape(note)}</p>{body}</section>'
    )


def _headline_card(task: Task, before: TaskScores | None, after: TaskScores | None) -> str:
    shown = [(when, scores) for when, scores in (("before", before), ("after", after)) if scores is not None]
    if not shown:
        return ""
    figures = '<span class="arrow" aria-label="to">→</span>'.join(
        f'<span class="{when}"><small>{when}</small>{_percent(scores.score)}</span>' for when, scores in shown
    )
    rows = "".join(_whisker(when, scores) for when, scores in shown)
    count = shown[-1][1].count
    what = f"{WHAT[task]}, of {count:,}" if count else WHAT[task]
    change = _change(before, after) if before and after else ""
    return (
        f'<article class="card {task}"><h3>{task.capitalize()}</h3><p class="what">{what}</p>'
        f'<p class="figures">{figures}</p>{change}'
        f'<div class="whiskers">{rows}<div class="scale" aria-hidden="true">'
        f"<span>0</span><span>50</span><span>100%</span></div></div></article>"
    )


def _change(before: TaskScores, after: TaskScores) -> str:
    said = f"{100 * (after.score - before.score):+.1f} points".replace("-", "−")
    if before.items and after.items:
        first, second = [i.correct for i in before.items], [i.correct for i in after.items]
        _, low, high = paired_difference(first, second)
        gained = sum(a and not b for b, a in zip(first, second, strict=True))
        lost = sum(b and not a for b, a in zip(first, second, strict=True))
        span = f"{100 * low:+.1f} to {100 * high:+.1f}".replace("-", "−")
        said = f"<b>{said}</b> (95%: {span}); {gained:,} newly right, {lost:,} newly wrong"
        return f'<p class="change">{said}</p>'
    return f'<p class="change"><b>{said}</b></p>'


def _whisker(when: str, scores: TaskScores) -> str:
    mark = f'<span class="mark" {placed(left=f"{100 * scores.score:.2f}%")}></span>'
    span = ""
    if scores.count:
        low, high = wilson_interval(scores.score, scores.count)
        said = f"{when}: {_percent(scores.score)}, 95% interval {_percent(low)} to {_percent(high)}"
        at = placed(left=f"{100 * low:.2f}%", width=f"{100 * (high - low):.2f}%")
        span = f'<span class="whisker" {at}></span>'
    else:
        said = f"{when}: {_percent(scores.score)}"
    return f'<div class="track {when}" role="img" aria-label="{said}" title="{said}">{span}{mark}</div>'


def _category_table(task: Task, before: TaskScores | None, after: TaskScores | None) -> str:
    first, second = (scores.by_kind if scores else {} for scores in (before, after))
    kinds = list(dict.fromkeys([*second, *first]))
    if not kinds:
        return ""
    rows = []
    for kind in kinds:
        was, now = first.get(kind), second.get(kind)
        rows.append(
            f'<tr><th scope="row">{escape(kind.replace("_", " "))}{_count(now or was)}</th>'
            f'<td class="before">{_bar(was)}</td><td class="after">{_bar(now)}</td></tr>'
        )
    return (
        f'<table class="bars {task}"><caption>{task.capitalize()}</caption><thead class="unseen"><tr>'
        f'<th scope="col">kind</th><th scope="col">before</th><th scope="col">after</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _bar(score: KindScore | None) -> str:
    if score is None:
        return ""
    return f'<span class="bar" {placed(__share=f"{score.score:.4f}")}></span><span>{100 * score.score:.0f}</span>'


def _count(score: KindScore | None) -> str:
    return f" <small>{score.count:,}</small>" if score and score.count else ""


def _compared(run: Run, task: Task, title: str, what: str, card: Any, name: str) -> str:
    first, second = run.before.task(task), run.after.task(task)
    if first is None or second is None or not first.items or not second.items:
        return ""
    outcomes = (
        ("Wrong before, right after", False, True, 12),
        ("Right before, wrong after", True, False, 8),
        ("Right both times", True, True, 6),
        ("Wrong both times", False, False, 6),
    )
    groups = []
    matched = list(zip(first.items, second.items, strict=True))
    for heading, was, is_now, most in outcomes:
        found = [(b, a) for b, a in matched if (b.correct, a.correct) == (was, is_now)]
        if found:
            imaged = [(b, a) for b, a in found if a.image and (b.image or task == "understanding")]
            shown = spread(imaged or found, most)
            of = f"{len(shown)} of {len(found):,}" if len(shown) < len(found) else f"{len(found):,}"
            cards = "".join(card(b, a) for b, a in shown)
            groups.append(f'<h3>{heading} <small>{of}</small></h3><ol class="{name}">{cards}</ol>')
    return _section(name, title, "".join(groups), what)


def _drawn(run: Run, item: Item, when: str) -> str:
    alt = f"drawn {when}, {'right' if item.correct else 'wrong'}: {item.prompt}"
    shown = picture(run.folder, item.image, alt)
    seen = f"<i>seen: {_reply(item)}</i>" if item.reply and not item.correct else ""
    return f"<figure>{shown}<figcaption>{_mark(item.correct)} {when}{seen}</figcaption></figure>"


def _mark(correct: bool) -> str:
    return (
        '<span class="right" role="img" aria-label="right">✓</span>'
        if correct
        else '<span class="wrong" role="img" aria-label="wrong">✗</span>'
    )


def _reply(item: Item) -> str:
    text = item.reply.strip()
    shown = text if len(text) <= 160 else text[:80] + " … " + text[-70:]
    return escape(shown) if shown else "<i>nothing</i>"


def _rollout(folder: Path, row: SampleRow) -> str:
    drawn = "".join(
        f"<figure>{picture(folder, shot.image, 'a rollout of: ' + row.prompt)}"
        f"<figcaption>{_earned(shot)}</figcaption></figure>"
        for shot in row.pictures
    )
    said = "".join(
        f"<li><b>{_earned(reply)}</b> {escape(reply.text.strip()) or '<i>nothing</i>'}</li>"
        for reply in row.answers
    )
    asked = f"{row.question} — truth: {row.answer}"
    return (
        f'<li><p class="tag">step {row.step} · similarity {row.similarity:.2f}</p>'
        f'<p>{escape(row.prompt)}</p><div class="strip">{drawn}</div>'
        f'<p>{escape(asked)}</p><ul class="replies">{said}</ul></li>'
    )


def _earned(one: Shot | Said) -> str:
    return "" if one.reward is None else number(one.reward)


def _pair(folder: Path, pair: UGPair) -> str:
    und, gen = pair.understand_ann, pair.generate_ann
    return (
        f'<li class="pair"><p class="tag">{pair.kind} · similarity {pair.similarity:.2f}</p><div class="two">'
        f"<figure>{picture(folder, und.image_path, 'understanding side: ' + und.prompt)}"
        f"<figcaption><b>asked</b> {escape(und.question)} <i>{escape(und.answer)}</i></figcaption></figure>"
        f"<figure>{picture(folder, gen.image_path, 'generation side: ' + gen.prompt)}"
        f"<figcaption><b>drawn</b> {escape(gen.prompt)}</figcaption></figure></div></li>"
    )


def _settings_table(name: str, values: dict[str, Any]) -> str:
    described = _descriptions(name)
    rows = "".join(
        f'<tr><th scope="row">{escape(key)}</th><td>{escape(_plain(value))}</td>'
        f"<td>{escape(described.get(key, ''))}</td></tr>"
        for key, value in values.items()
    )
    return f"<table><caption>{escape(name)}</caption><tbody>{rows}</tbody></table>"


def _descriptions(section: str) -> dict[str, str]:
    cls: Any = RunSettings if section == "run" else None
    if section in RunSettings.model_fields:
        cls = RunSettings.model_fields[section].annotation
    if not (isinstance(cls, type) and issubclass(cls, Settings)):
        return {}
    return {key: field.description or "" for key, field in cls.model_fields.items()}


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _series(rows: Sequence[MetricsRow], key: str) -> tuple[list[float], list[float]]:
    found = [(row.step, value) for row in rows if (value := row.value(key)) is not None]
    return [float(step) for step, _ in found], [value for _, value in found]

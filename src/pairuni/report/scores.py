"""Sections with the held-out scores before and after training."""

from __future__ import annotations

from pairuni.intervals import wilson_interval
from pairuni.records import TASKS, Task
from pairuni.report.markup import escape, placed, section
from pairuni.report.statistics import paired_difference
from pairuni.runs.evaluations import KindScore, TaskScores
from pairuni.runs.run import Run

WHAT = {"understanding": "questions answered correctly", "generation": "images generated correctly"}


def headline(run: Run) -> str:
    cards = [_headline_card(task, run.before.task(task), run.after.task(task)) for task in TASKS]
    if not any(cards):
        return ""
    intervals = '<span class="whisker"' in "".join(cards)
    note = "Held-out items; whiskers are 95% Wilson intervals." if intervals else "Held-out items."
    return section("result", "Result", f'<div class="cards">{"".join(cards)}</div>', note)


def categories(run: Run) -> str:
    tables = [_category_table(task, run.before.task(task), run.after.task(task)) for task in TASKS]
    if not any(tables):
        return ""
    return section(
        "categories",
        "By category",
        f'<div class="charts">{"".join(tables)}</div>',
        "Percentage of held-out items that are correct: before training above in grey, after training below in colour.",
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
    change = f"<b>{100 * (after.score - before.score):+.1f} points</b>".replace("-", "−")
    if before.items and after.items:
        first, second = [i.correct for i in before.items], [i.correct for i in after.items]
        _, low, high = paired_difference(first, second)
        gained = sum(a and not b for b, a in zip(first, second, strict=True))
        lost = sum(b and not a for b, a in zip(first, second, strict=True))
        span = f"{100 * low:+.1f} to {100 * high:+.1f}".replace("-", "−")
        change += f" (95%: {span}); {gained:,} newly right, {lost:,} newly wrong"
    return f'<p class="change">{change}</p>'


def _whisker(when: str, scores: TaskScores) -> str:
    mark = f'<span class="mark" {placed(left=f"{100 * scores.score:.2f}%")}></span>'
    whisker, label = "", f"{when}: {_percent(scores.score)}"
    if scores.count:
        low, high = wilson_interval(scores.score, scores.count)
        label += f", 95% interval {_percent(low)} to {_percent(high)}"
        at = placed(left=f"{100 * low:.2f}%", width=f"{100 * (high - low):.2f}%")
        whisker = f'<span class="whisker" {at}></span>'
    return f'<div class="track {when}" role="img" aria-label="{label}" title="{label}">{whisker}{mark}</div>'


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


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"

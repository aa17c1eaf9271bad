"""Held-out scores of several runs with intervals, and paired differences where the items are the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pairuni.console.counts import counted
from pairuni.intervals import bootstrap_interval, wilson_interval
from pairuni.records import TASKS, Task
from pairuni.report.axes import number, signed
from pairuni.report.comparison.runs import Compared
from pairuni.report.differences import Difference, difference_card
from pairuni.report.document import html_table
from pairuni.report.markup import escape, section
from pairuni.report.statistics import sign_test
from pairuni.runs.evaluations import Item, StepScores, TaskScores

Interval = tuple[float, float] | None


@dataclass(frozen=True)
class Scored:
    """A held-out score of a run. when: such as "after step 100"; count: of its items, where known.

    items: empty if only the score is known. marked: each is right or wrong, so the score is a share.
    """

    run: Compared
    when: str
    score: float
    count: int | None
    marked: bool
    items: Sequence[Item]

    @property
    def identity(self) -> list[tuple[str, str, str]]:
        """What tells whether two runs were evaluated on the same items."""
        return [(item.question, item.prompt, item.answer) for item in self.items]

    @property
    def values(self) -> list[float]:
        """The score of each item; empty if they are not known."""
        values = [item.correct if self.marked else item.reward for item in self.items]
        known = [float(value) for value in values if value is not None]
        return known if len(known) == len(values) else []

    @property
    def interval(self) -> Interval:
        if self.marked:
            return wilson_interval(self.score, self.count) if self.count else None
        return _bootstrap(self.values) if self.values else None


@dataclass(frozen=True)
class Change:
    """A paired difference of two scores. higher, lower: items whose score differs; p: of the sign test on them."""

    value: float
    interval: Interval
    higher: int
    lower: int

    @property
    def p(self) -> float:
        return sign_test(self.higher, self.lower)


def last_scored(one: Compared, task: Task) -> Scored | None:
    """The score after training, else the one of the last evaluation during it."""
    if (after := one.run.after.task(task)) is not None:
        return _of_task(one, "after training", after)
    if not one.run.step_evaluations:
        return None
    last = one.run.step_evaluations[-1]
    return _of_step(one, last.step, last.task(task))


def first_scored(one: Compared, task: Task) -> Scored | None:
    """The score of the untrained policy, from where the last score is."""
    if one.run.after.task(task) is not None:
        before = one.run.before.task(task)
        return None if before is None else _of_task(one, "before training", before)
    if not one.run.step_evaluations or one.run.step_evaluations[0].step > 0:
        return None
    return _of_step(one, 0, one.run.step_evaluations[0].task(task))


def change(first: Scored, second: Scored) -> Change | None:
    """Second minus first, item by item; None if the items or the kind of score are not the same."""
    before, after = first.values, second.values
    if not before or not after or first.marked != second.marked or first.identity != second.identity:
        return None
    found = [late - early for early, late in zip(before, after, strict=True)]
    return Change(
        sum(found) / len(found), _bootstrap(found), sum(d > 0 for d in found), sum(d < 0 for d in found)
    )


def held_out_scores(runs: Sequence[Compared]) -> str:
    """A table for each task, and the differences to the first run that has a score."""
    scored = {task: [last for one in runs if (last := last_scored(one, task))] for task in TASKS}
    if not any(scored.values()):
        return ""
    tables, cards, tests = [], [], 0
    for task, found in scored.items():
        if not found:
            continue
        differences = [(one, change(found[0], one)) for one in found[1:]]
        tests += sum(other is not None for _, other in differences)
        tables.append(_table(task, found, {one.run.letter: other for one, other in differences}))
        shown = [
            Difference(
                f"{one.run.letter} {one.run.name}",
                other.value,
                other.interval,
                _with_interval(other.value, other.interval, _points),
            )
            for one, other in differences
            if other is not None and one.marked
        ]
        if shown:
            cards.append(difference_card(task, shown))
    charts = f'<h3>Differences to the first run, in points</h3><div class="cards">{"".join(cards)}</div>'
    return section("scores", "Held-out scores", "".join(tables) + (charts if cards else ""), _note(tests))


def kinds(runs: Sequence[Compared]) -> str:
    """The last held-out scores by kind of item, a run in each column."""
    tables = []
    for task in TASKS:
        found = [one for run in runs if (one := last_scored(run, task)) and one.marked]
        by_run = {one.run.letter: _by_kind(one) for one in found}
        names = dict.fromkeys(name for shares in by_run.values() for name in shares)
        if names:
            rows = [
                [
                    escape(name.replace("_", " ")),
                    *(
                        f"{100 * by_run[one.run.letter][name]:.1f}" if name in by_run[one.run.letter] else "–"
                        for one in found
                    ),
                ]
                for name in names
            ]
            tables.append(html_table(["kind", *(one.run.key for one in found)], rows, task.capitalize()))
    if not tables:
        return ""
    return section("kinds", "By category", "".join(tables), "Percentage of held-out items that are correct.")


def _of_task(one: Compared, when: str, scores: TaskScores) -> Scored:
    return Scored(one, when, scores.score, len(scores.items) or scores.count, True, scores.items)


def _of_step(one: Compared, step: int, scores: StepScores) -> Scored:
    marked = bool(scores.items) and all(item.correct is not None for item in scores.items)
    return Scored(one, f"after step {step:,}", scores.score, len(scores.items) or None, marked, scores.items)


def _bootstrap(values: Sequence[float]) -> Interval:
    return bootstrap_interval([values], lambda means: means[0])


def _table(task: Task, found: Sequence[Scored], differences: dict[str, Change | None]) -> str:
    first = found[0].run.letter
    head = [
        *("run", "evaluated", "items", "score [95%]", "gain over untrained [95%]"),
        *(f"difference to {first} [95%]", "items higher, lower", "sign test, p"),
    ]
    rows = []
    for one in found:
        untrained = first_scored(one.run, task)
        gain = None if untrained is None else change(untrained, one)
        rows.append(
            [
                one.run.label,
                one.when,
                f"{one.count:,}" if one.count else "",
                _score(one),
                "" if gain is None else _change(one, gain),
                *_compared(one, found[0], differences),
            ]
        )
    return html_table(head, rows, task.capitalize())


def _compared(one: Scored, first: Scored, differences: dict[str, Change | None]) -> list[str]:
    if one is first:
        return ["", "", ""]
    other = differences[one.run.letter]
    if other is None:
        known = one.items and first.items
        return ["other items or scoring" if known else "items not kept", "", ""]
    return [_change(one, other), f"{other.higher:,}, {other.lower:,}", number(other.p)]


def _score(one: Scored) -> str:
    return _with_interval(one.score, one.interval, _percent if one.marked else number)


def _change(one: Scored, found: Change) -> str:
    """A change with its interval, in points of a share; bold if the interval excludes 0."""
    shown = _with_interval(found.value, found.interval, _points if one.marked else _signed)
    clear = found.interval is not None and not found.interval[0] <= 0.0 <= found.interval[1]
    return f"<b>{shown}</b>" if clear else shown


def _with_interval(value: float, interval: Interval, written: Callable[[float], str]) -> str:
    shown = written(value)
    return shown if interval is None else f"{shown} [{written(interval[0])},\u00a0{written(interval[1])}]"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _points(share: float) -> str:
    return signed(100 * share, 1)


def _signed(value: float) -> str:
    return number(value) if value <= 0 else f"+{number(value)}"


def _by_kind(one: Scored) -> dict[str, float]:
    """Share of correct items of each kind."""
    kinds: dict[str, list[bool]] = {}
    for item in one.items:
        if item.kind:
            kinds.setdefault(item.kind, []).append(bool(item.correct))
    return {kind: sum(own) / len(own) for kind, own in kinds.items()}


def _note(tests: int) -> str:
    said = (
        "Shares in percent, their gains and differences in points; rewards as they are. Intervals: 95%, Wilson for "
        "shares, bootstrap over the items for rewards, gains and differences. "
    )
    if tests:
        said += (
            "Gains and differences are paired item by item. Bold: the interval excludes 0; of "
            f"{counted(tests, 'difference')}, {0.05 * tests:.2g} would by chance. The sign test asks whether as many "
            "items are higher as lower. Neither knows how much a run with another seed would differ: pairuni ablate "
            "trains several."
        )
    return said

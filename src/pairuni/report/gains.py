"""Section that splits the gain in understanding into reading and format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pairuni.intervals import bootstrap_interval
from pairuni.report.axes import signed
from pairuni.report.markup import section
from pairuni.runs.evaluations import MarkedItem
from pairuni.runs.run import Run

FORMS = {"all": "All questions", "open": "Open", "options": "With options"}
"""The columns of the table: all questions, then each form."""
NOTE = (
    "Reading: how many more replies have the right words, whatever letter they add. Format: the rest of the gain, "
    "which comes from the letter. A reply “seven. A”, where seven is option B, has the right words but is wrong. "
    "Points, with 95% intervals of a paired bootstrap over the items."
)


@dataclass(frozen=True)
class Change:
    """A change of a share, with its 95% interval; None if all items change alike."""

    value: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Gain:
    """The gain of the questions of one form; it is exactly the sum of ``reading`` and ``format``."""

    form: str
    items: int
    before: float
    after: float
    total: Change
    reading: Change
    format: Change


def gain_of(form: str, before: Sequence[MarkedItem], after: Sequence[MarkedItem]) -> Gain:
    """The gain of these items, the same ones before and after, split item by item.

    With S for a correct item and R for one whose words are right, S_after - S_before is the sum of reading,
    R_after - R_before, and format, (S - R)_after - (S - R)_before.
    """
    pairs = list(zip(before, after, strict=True))
    total = [int(a.correct) - int(b.correct) for b, a in pairs]
    reading = [int(a.reads is True) - int(b.reads is True) for b, a in pairs]
    return Gain(
        form=form,
        items=len(pairs),
        before=sum(item.correct for item in before) / len(pairs),
        after=sum(item.correct for item in after) / len(pairs),
        total=_change(total),
        reading=_change(reading),
        format=_change([whole - part for whole, part in zip(total, reading, strict=True)]),
    )


def reading_and_format(run: Run) -> str:
    first, second = run.before.understanding, run.after.understanding
    if first is None or second is None or not first.items or not second.items:
        return ""
    if any(item.reads is None for item in (*first.items, *second.items)):
        return ""
    gains = []
    for form in FORMS:
        chosen = [
            pair
            for pair in zip(first.items, second.items, strict=True)
            if form == "all" or pair[1].form == form
        ]
        if chosen:
            gains.append(gain_of(form, [b for b, _ in chosen], [a for _, a in chosen]))
    return section("gain", "Reading and format", f"<p>{_sentence(gains[0])}</p>{_table(gains)}", NOTE)


def _change(values: Sequence[int]) -> Change:
    interval = bootstrap_interval([values], lambda means: means[0])
    return Change(sum(values) / len(values), interval)


def _sentence(gain: Gain) -> str:
    parts = (
        f"{_points(change.value)} by {name}{_within(change)}"
        for name, change in (("reading", gain.reading), ("format", gain.format))
    )
    return f"Understanding changed by <b>{_points(gain.total.value)} points</b>: {' and '.join(parts)}."


def _within(change: Change) -> str:
    return f" (95%: {_span(change.interval)})" if change.interval else ""


def _table(gains: Sequence[Gain]) -> str:
    heads = "".join(
        f'<th scope="col">{FORMS[gain.form]} <small>{gain.items:,} items</small></th>' for gain in gains
    )
    rows = [
        ("before", [f"{100 * gain.before:.1f}%" for gain in gains]),
        ("after", [f"{100 * gain.after:.1f}%" for gain in gains]),
        ("gain", [_shown(gain.total) for gain in gains]),
        ("of which reading", [_shown(gain.reading) for gain in gains]),
        ("of which format", [_shown(gain.format) for gain in gains]),
    ]
    body = "".join(
        f'<tr><th scope="row">{name}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        for name, cells in rows
    )
    return (
        '<table class="gains understanding"><thead><tr><td></td>'
        f"{heads}</tr></thead><tbody>{body}</tbody></table>"
    )


def _shown(change: Change) -> str:
    span = f" <small>{_span(change.interval)}</small>" if change.interval else ""
    return f"<b>{_points(change.value)}</b>{span}"


def _span(interval: tuple[float, float]) -> str:
    return f"{_points(interval[0])} to {_points(interval[1])}"


def _points(share: float) -> str:
    return signed(100 * share, 1)

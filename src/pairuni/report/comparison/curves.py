"""The curves of several runs in the same charts."""

from __future__ import annotations

from collections.abc import Sequence

from pairuni.records import TASKS
from pairuni.report.comparison.runs import Compared
from pairuni.report.curves import FEWEST_SMOOTHED, SMOOTHED_OVER, Line, line_chart
from pairuni.report.markup import section
from pairuni.report.training import READING, SIGNALS, held_out_curves
from pairuni.runs.metrics import AGREEMENT, series

NOTE = (
    f"Lines of {FEWEST_SMOOTHED} values or more are smoothed by a moving linear fit over 1/{SMOOTHED_OVER} of them; up "
    "to four runs have the value of each step as a faint line. Long lines keep the lowest and the highest value of "
    f"each stretch. {READING}"
)
_Curve = tuple[Sequence[float], Sequence[float]]


def curves(runs: Sequence[Compared]) -> str:
    """Rewards and held-out scores large, the metrics of training small."""
    large, small = [], []
    rewards = {task: _metric(runs, f"{task}/reward") for task in TASKS}
    for task, own in rewards.items():
        if own:
            large.append(line_chart(f"{task.capitalize()} reward", _lines(own)))
    held_out = {one.letter: held_out_curves(one.run) for one in runs}
    for name in dict.fromkeys(name for found in held_out.values() for name in found):
        own = [(one, held_out[one.letter][name]) for one in runs if name in held_out[one.letter]]
        large.append(line_chart(f"{name.capitalize()}, held out", _lines(own)))
    for key, title in (*SIGNALS, (AGREEMENT, "Gradient agreement")):
        if own := _metric(runs, key):
            small.append(line_chart(title, _lines(own), low=0.0, small=True))
    if not large and not small:
        return ""
    body = f'<div class="charts">{"".join(large)}</div><div class="small-charts">{"".join(small)}</div>'
    return section("curves", "Curves", body, NOTE)


def _metric(runs: Sequence[Compared], key: str) -> list[tuple[Compared, _Curve]]:
    """The curves of the runs that have the metric."""
    found = [(one, series(one.run.metrics, key)) for one in runs]
    return [(one, curve) for one, curve in found if curve[1]]


def _lines(curves: Sequence[tuple[Compared, _Curve]]) -> list[Line]:
    return [Line(steps, values, one.letter, one.tone) for one, (steps, values) in curves]

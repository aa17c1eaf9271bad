"""Section with the agreement of the two tasks' gradients."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pairuni.report.axes import signed
from pairuni.report.charts import signed_bars
from pairuni.report.curves import Line, line_chart
from pairuni.report.markup import section
from pairuni.runs.metrics import AGREEMENT, MetricsRow, series
from pairuni.runs.run import Run

NOTE = (
    "Cosine between the understanding and the generation gradient of each step: above 0, the tasks pull the weights in "
    "one direction. Steps in which one of the gradients is zero have no cosine."
)
_LAYER = re.compile(r"layer_(\d+)")


def gradient_agreement(run: Run) -> str:
    steps, values = series(run.metrics, AGREEMENT)
    if not values:
        return ""
    mean, above = sum(values) / len(values), sum(value > 0 for value in values)
    facts = f"Mean <b>{signed(mean, 4)}</b>; above 0 in {above:,} of {len(values):,} steps."
    curve = line_chart("Over steps", [Line(steps, values)], tone="signal", low=0.0)
    groups = [(_label(name), _mean(run.metrics, name)) for name in _groups(run.metrics)]
    parts = signed_bars("By part of the model, mean over the run", groups) if groups else ""
    return section(
        "agreement", "Gradient agreement", f'<p>{facts}</p><div class="charts">{curve}{parts}</div>', NOTE
    )


def _groups(rows: Iterable[MetricsRow]) -> list[str]:
    """The measured parts of the model: layers by number, then the others by name."""
    prefix = f"{AGREEMENT}/"
    names = {
        key.removeprefix(prefix)
        for row in rows
        for key, value in row.values.items()
        if key.startswith(prefix) and value is not None
    }

    def order(name: str) -> tuple[bool, int, str]:
        layer = _LAYER.fullmatch(name)
        return (layer is None, int(layer[1]) if layer else 0, name)

    return sorted(names, key=order)


def _label(name: str) -> str:
    layer = _LAYER.fullmatch(name)
    return f"layer {int(layer[1])}" if layer else name.replace("_", " ")


def _mean(rows: list[MetricsRow], name: str) -> float:
    _, values = series(rows, f"{AGREEMENT}/{name}")
    return sum(values) / len(values)

"""A run as HTML, finished or still training: its state, curves and samples."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairuni.io.locks import seems_in_use
from pairuni.report import agreement, training
from pairuni.report.markup import escape, placing_rules, section
from pairuni.runs.evaluations import Evaluation, read_step_evaluations
from pairuni.runs.folder import RunFolder
from pairuni.runs.following import FollowedLog
from pairuni.runs.metrics import MetricsRow, metrics_row
from pairuni.runs.reading import read_toml
from pairuni.runs.run import Run, Summary
from pairuni.runs.samples import sample_row

MOST_SAMPLES = 8
"""Pairs of a step whose rollouts are shown."""
RECENT = 10
"""Steps whose time predicts that of the steps to come."""


@dataclass(frozen=True)
class Look:
    """What a run shows now, as HTML, empty where it has nothing. sample_steps: whose samples can be shown."""

    status: str
    curves: str
    held_out: str
    samples: str
    sample_steps: tuple[int, ...]


class RunWatch:
    """Follows the folder of a run, which need not exist yet. Any number of threads may look."""

    def __init__(self, root: Path) -> None:
        self.folder = RunFolder(root)
        self._metrics = FollowedLog(self.folder.metrics, metrics_row)
        self._samples = FollowedLog(self.folder.samples_log, sample_row)
        self._lock = threading.Lock()
        self._made: dict[str, tuple[Any, str]] = {}

    def look(self, sample_step: int | None = None) -> Look:
        """The run as it is now. sample_step: whose samples are shown, by default the newest."""
        with self._lock:
            steps: tuple[int, ...] = ()
            title = f"<h2>{escape(self.folder.root)}</h2>"
            try:
                self._metrics.update()
                self._samples.update()
                steps = tuple(sorted({row.step for row in self._samples.rows}))
                shown = sample_step if sample_step in steps else max(steps, default=None)
                return Look(
                    status=title + self._status(),
                    curves=self._curves(),
                    held_out=self._held_out(),
                    samples=self._samples_of(shown),
                    sample_steps=steps,
                )
            except ValueError as error:
                fault = f'{title}<p class="fault" role="alert">{escape(error)}</p>'
                curves, held_out, samples = map(self._last, ("curves", "held_out", "samples"))
                return Look(fault, curves, held_out, samples, steps)

    def _status(self) -> str:
        root, rows = self.folder.root, self._metrics.rows
        if not root.is_dir():
            return _state(
                "waiting", "There is no such folder yet. The run appears here as soon as it begins."
            )
        config = read_toml(self.folder.config)
        step = max((row.step for row in rows), default=0)
        share = _share_done(config, rows)
        planned = None if _setting(config, "pairgrpo", "epochs") else _setting(config, "pairgrpo", "steps")
        of = f" of {planned:,}" if planned else ""
        at = f"step {step:,}{of}"
        if seems_in_use(root):
            text = f"Training: {at}{self._pace(rows, share)}" if step else "Training: before the first step"
            return _state("training", f"{text}.", share, _facts(config))
        if self.folder.summary.is_file():
            return _state("finished", f"Finished at {at}.{self._report()}", 1.0, _facts(config))
        if not rows:
            return _state("waiting", "The folder has no metrics yet.")
        return _state("stopped", f"Not training now; it stopped at {at}.", share, _facts(config))

    def _report(self) -> str:
        return f" Its report is {self.folder.report}." if self.folder.report.is_file() else ""

    def _pace(self, rows: Sequence[MetricsRow], share: float | None) -> str:
        """How long ago the last step was, and the time left."""
        try:
            ago = max(0.0, time.time() - self.folder.metrics.stat().st_mtime)
        except OSError:
            return ""
        times = [value for row in rows[-RECENT:] if (value := row.value("step_time")) is not None]
        text = f"; the last step {_duration(ago)} ago"
        if times and share:
            done = rows[-1].step
            text += f"; about {_duration(statistics.median(times) * done * (1 - share) / share)} left"
        return text

    def _curves(self) -> str:
        rows = self._metrics.rows

        def make() -> str:
            run = self._run(metrics=rows)
            return training.rewards(run) + agreement.gradient_agreement(run)

        return self._cached("curves", (len(rows), rows[-1] if rows else None), make)

    def _held_out(self) -> str:
        files = sorted(self.folder.evaluation.glob("step-*.json"))
        rows = [row for row in self._metrics.rows if any(key.startswith("eval/") for key in row.values)]
        return self._cached(
            "held_out",
            ([(path.name, path.stat().st_mtime_ns) for path in files], rows),
            lambda: training.held_out(self._run(metrics=rows, evaluated=True)),
        )

    def _samples_of(self, step: int | None) -> str:
        rows = [row for row in self._samples.rows if row.step == step and (row.images or row.answers)]

        def make() -> str:
            groups = training.rollout_groups(self.folder.samples, rows[:MOST_SAMPLES])
            note = "Groups of rollouts with their rewards. Only differences within a group change the policy."
            return section("samples", f"Samples of step {step:,}", groups, note) if rows else ""

        return self._cached("samples", rows, make)

    def _cached(self, part: str, version: Any, make: Any) -> str:
        if part not in self._made or self._made[part][0] != version:
            body = make()
            self._made[part] = (version, f"<style>{placing_rules(body)}</style>{body}" if body else "")
        return self._last(part)

    def _last(self, part: str) -> str:
        return self._made[part][1] if part in self._made else ""

    def _run(self, *, metrics: Sequence[MetricsRow] = (), evaluated: bool = False) -> Run:
        """What the report's sections need of the run."""
        root = self.folder.root
        return Run(
            folder=self.folder,
            config={},
            summary=Summary(),
            metrics=list(metrics),
            samples=[],
            before=Evaluation(),
            after=Evaluation(),
            step_evaluations=read_step_evaluations(root) if evaluated else [],
            pairs=[],
            pairs_file=None,
        )


def _share_done(config: Mapping[str, Any], rows: Sequence[MetricsRow]) -> float | None:
    """The share of the planned steps, or epochs, that is done; None if it is not known."""
    if not rows:
        return None
    steps, epochs = _setting(config, "pairgrpo", "steps"), _setting(config, "pairgrpo", "epochs")
    if epochs:
        epoch = rows[-1].value("epoch")
        return None if epoch is None else min(1.0, epoch / epochs)
    return min(1.0, rows[-1].step / steps) if steps else None


def _setting(config: Mapping[str, Any], section: str, key: str) -> float | None:
    """A positive number in config.toml, or None."""
    table = config.get(section)
    value = table.get(key) if isinstance(table, dict) else None
    return value if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None


def _facts(config: Mapping[str, Any]) -> str:
    """The model and the pairs of a run."""
    facts = [
        (key, table.get(key))
        for section, key in (("policy", "model"), ("data", "pairs"))
        if isinstance(table := config.get(section), dict)
    ]
    return "".join(f"<div><dt>{key}</dt><dd>{escape(value)}</dd></div>" for key, value in facts if value)


def _state(name: str, text: str, share: float | None = None, facts: str = "") -> str:
    bar = ""
    if share is not None:
        bar = f'<progress max="100" value="{100 * share:.1f}" aria-label="share of the steps"></progress>'
    rest = f"<dl>{facts}</dl>" if facts else ""
    return f'<div class="state {name}"><p role="status">{escape(text)}</p>{bar}{rest}</div>'


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

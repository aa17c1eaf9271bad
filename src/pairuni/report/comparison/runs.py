"""The runs of a comparison: their names on the page, a table of them, and sentences on what they lack."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pairuni.records import TASKS
from pairuni.report.axes import number
from pairuni.report.document import html_table
from pairuni.report.markup import escape, section
from pairuni.report.page import duration, steps_of
from pairuni.runs.metrics import MetricsLog, series
from pairuni.runs.run import Run, read_run

MOST_RUNS = 16
"""As many as there are colours and line styles in style.css."""
LAST = 5
"""The last rewards are means over this part of the steps."""


@dataclass(frozen=True)
class Compared:
    """A run on the page. letter: its short name; name: the end of its path."""

    letter: str
    name: str
    run: Run

    @property
    def tone(self) -> str:
        """The class of its colour and line style."""
        return f"run-{string.ascii_uppercase.index(self.letter) + 1}"

    @property
    def key(self) -> str:
        """Its letter with a sample of its line, as HTML."""
        return f'<span class="{self.tone}"><i class="key"></i>{self.letter}</span>'

    @property
    def label(self) -> str:
        """Key and name, as HTML."""
        return f"{self.key} {escape(self.name)}"


def read_compared(paths: Sequence[Path]) -> list[Compared]:
    """Read the runs. Raises ValueError if there are too few or too many, one is given twice or cannot be read."""
    if not 2 <= len(paths) <= MOST_RUNS:
        raise ValueError(f"a comparison takes 2 to {MOST_RUNS} runs, not {len(paths)}")
    resolved = [path.resolve() for path in paths]
    for index, path in enumerate(resolved):
        if path in resolved[:index]:
            raise ValueError(f"{paths[index]} is given twice; name each run once")
    return [
        Compared(letter, name, read_run(path))
        for letter, name, path in zip(string.ascii_uppercase, _names(resolved), paths, strict=False)
    ]


def overview(runs: Sequence[Compared]) -> str:
    """A table of the runs, and what is special about each."""
    head = ["run", "model", "seed", "pairs", "steps", "time", *(f"last {task} reward" for task in TASKS)]
    rows = [
        [
            one.label,
            *(
                escape("" if value is None else value)
                for value in (
                    one.run.section("policy").get("model"),
                    one.run.config.get("seed") if one.run.summary.seed is None else one.run.summary.seed,
                    f"{len(one.run.pairs):,}" if one.run.pairs else None,
                    steps_of(one.run),
                    duration(one.run.summary.seconds),
                    *(_last_reward(one.run, f"{task}/reward") for task in TASKS),
                )
            ),
        ]
        for one in runs
    ]
    notes = "".join(f"<li>{one.key} {escape(said)}</li>" for one in runs for said in _sentences(one.run))
    body = html_table(head, rows) + (f'<ul class="sentences">{notes}</ul>' if notes else "")
    return section(
        "runs", "Runs", body, f"Last rewards: means over the last 1/{LAST} of the steps of each run."
    )


def legend(runs: Sequence[Compared]) -> str:
    """The letters, lines and names of the runs, which stay in view where there is room."""
    keys = "".join(f"<li>{one.label}</li>" for one in runs)
    return f'<ul class="legend" aria-label="Runs">{keys}</ul>'


def _names(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart."""
    length = 1
    while len({path.parts[-length:] for path in paths}) < len(paths):
        length += 1
    return ["/".join(path.parts[-length:]) for path in paths]


def _last_reward(run: Run, name: str) -> str | None:
    _, values = series(run.metrics, name)
    last = values[-max(1, len(values) // LAST) :]
    return number(sum(last) / len(last)) if last else None


def _sentences(run: Run) -> list[str]:
    said = list(run.faults)
    if not run.metrics:
        said.append("It has no metrics.jsonl, so it has no curves.")
    elif not run.finished:
        said.append(f"It is unfinished: step {steps_of(run)}.")
    if not run.config:
        said.append("It has no config.toml, so its settings are not compared.")
    if all(run.after.task(task) is None for task in TASKS) and not run.step_evaluations:
        said.append("It has no held-out evaluation, so it has no held-out scores.")
    for row in MetricsLog(run.folder.history).rows():
        changed = row.get("changed")
        if isinstance(changed, dict) and changed:
            said.append(
                f"From step {row.get('step')} on it had other settings, of which the page shows the last: "
                f"{', '.join(changed)}."
            )
    return said

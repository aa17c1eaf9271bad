"""A run as one self-contained page: it makes no requests, so it can be mailed or archived."""

from __future__ import annotations

import re
from pathlib import Path

from pairuni.io.files import write_text
from pairuni.report import agreement, data, gains, items, scores, training
from pairuni.report.document import document
from pairuni.report.markup import escape
from pairuni.runs.folder import RunFolder
from pairuni.runs.run import Run, read_run

SECTIONS = (
    scores.headline,
    gains.reading_and_format,
    training.rewards,
    agreement.gradient_agreement,
    training.held_out,
    scores.categories,
    items.generated_images,
    items.answers,
    training.rollouts,
    data.pairs,
    data.settings,
)


def write_report(run: Path) -> Path:
    """Write report.html from the other files of a run's folder; sections without data are left out. Returns its path.

    Raises FileNotFoundError if there is no such folder, ValueError if a part cannot be read.
    """
    path = RunFolder(run).report
    write_text(path, render(read_run(run)))
    return path


def render(run: Run) -> str:
    """The page of a run."""
    body = [part for part in (section(run) for section in SECTIONS) if part]
    found = [
        match for part in body if (match := re.search(r'<section id="([\w-]+)".*?<h2[^>]*>(.*?)</h2>', part))
    ]
    links = "".join(f'<li><a href="#{match[1]}">{match[2]}</a></li>' for match in found)
    name = run.folder.root.resolve().name
    nav = f'{_facts(run)}<nav aria-label="Sections"><ul>{links}</ul></nav>'
    return document("PairUni run", name, body, head=nav)


def _facts(run: Run) -> str:
    config = run.config
    steps = max((row.step for row in run.metrics), default=None)
    facts = [
        ("model", run.section("policy").get("model")),
        ("pairing", run.section("data").get("pairing")),
        ("pairs", f"{len(run.pairs):,}" if run.pairs else None),
        ("steps", steps),
        ("seed", config.get("seed") if run.summary.seed is None else run.summary.seed),
        ("time", _duration(run.summary.seconds)),
    ]
    shown = "".join(
        f"<div><dt>{key}</dt><dd>{escape(value)}</dd></div>" for key, value in facts if value is not None
    )
    return f"<dl>{shown}</dl>" if shown else ""


def _duration(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"

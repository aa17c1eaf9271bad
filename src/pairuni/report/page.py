"""A run as one self-contained page: it makes no requests, so it can be mailed or archived."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pairuni.io.files import write_text
from pairuni.report import agreement, data, gains, items, scores, training
from pairuni.report.document import checked_page, document
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


def write_report(run: Path, out: Path | None = None) -> Path:
    """Write the page of a run's folder; sections without data are left out. Returns its path.

    out: by default report.html in the folder. Raises FileNotFoundError if there is no such folder, ValueError if a part
    cannot be read or ``out`` is a folder.
    """
    path = checked_page(out or RunFolder(run).report)
    write_text(path, render(read_run(run)))
    return path


def render(run: Run) -> str:
    """The page of a run."""
    body = [part for part in (section(run) for section in SECTIONS) if part]
    name = run.folder.root.resolve().name
    faults = "".join(f'<p class="fault">{escape(fault)}</p>' for fault in run.faults)
    return document("PairUni run", name, body, head=f"{_facts(run)}{faults}{links(body)}")


def links(body: Sequence[str]) -> str:
    """Links to the sections of a page."""
    found = [
        match for part in body if (match := re.search(r'<section id="([\w-]+)".*?<h2[^>]*>(.*?)</h2>', part))
    ]
    items = "".join(f'<li><a href="#{match[1]}">{match[2]}</a></li>' for match in found)
    return f'<nav aria-label="Sections"><ul>{items}</ul></nav>'


def _facts(run: Run) -> str:
    config = run.config
    facts = [
        ("model", run.section("policy").get("model")),
        ("pairing", run.section("data").get("pairing")),
        ("pairs", f"{len(run.pairs):,}" if run.pairs else None),
        ("steps", steps_of(run) if run.metrics else None),
        ("seed", config.get("seed") if run.summary.seed is None else run.summary.seed),
        ("time", duration(run.summary.seconds)),
    ]
    shown = "".join(
        f"<div><dt>{key}</dt><dd>{escape(value)}</dd></div>" for key, value in facts if value is not None
    )
    return f"<dl>{shown}</dl>" if shown else ""


def steps_of(run: Run) -> str:
    """The steps of a run; of an unfinished one those done and those planned."""
    if run.finished or run.planned_steps is None:
        return f"{run.step:,}"
    return f"{run.step:,} of {run.planned_steps:,}"


def duration(seconds: float | None) -> str | None:
    """A time in hours, minutes and seconds."""
    if seconds is None:
        return None
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"

"""Sections with the pairs and the settings of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pairuni.config import RunSettings, Settings, section_classes
from pairuni.records import UGPair
from pairuni.report.charts import histogram
from pairuni.report.images import image_tag, image_tags
from pairuni.report.markup import escape, section
from pairuni.report.statistics import evenly_spaced
from pairuni.runs.run import Run


def pairs(run: Run) -> str:
    if not run.pairs:
        return ""
    retrieved = sorted((p for p in run.pairs if p.kind == "retrieved"), key=lambda pair: pair.similarity)
    aligned = [pair for pair in run.pairs if pair.kind == "aligned"]
    chart = (
        histogram(
            [pair.similarity for pair in retrieved],
            title="Similarity of retrieved pairs",
            width=0.02 if retrieved[-1].similarity - retrieved[0].similarity < 0.3 else 0.05,
            unit="pairs",
        )
        if retrieved
        else ""
    )
    sample = [*evenly_spaced(aligned, 4), *reversed(evenly_spaced(retrieved, 8))]
    cards = "".join(_pair(run.pairs_folder, pair) for pair in sample)
    note = (
        f"{len(run.pairs):,} pairs: {len(aligned):,} aligned (one image on both sides, similarity 1) and "
        f"{len(retrieved):,} retrieved. Shown: {len(sample):,} of them, evenly spaced by similarity."
    )
    return section("pairs", "Pairs", f'{chart}<ol class="pairs">{cards}</ol>', note)


def settings(run: Run) -> str:
    if not run.config:
        return ""
    top = {key: value for key, value in run.config.items() if not isinstance(value, dict)}
    tables = [("run", top)] + [(key, value) for key, value in run.config.items() if isinstance(value, dict)]
    body = "".join(_settings_table(name, values) for name, values in tables if values)
    return section(
        "settings", "Settings", f'<div class="settings">{body}</div>', "Resolved settings from config.toml."
    )


def _pair(folder: Path, pair: UGPair) -> str:
    und, gen = pair.understand_ann, pair.generate_ann
    return (
        f'<li class="pair"><p class="tag">{pair.kind} · similarity {pair.similarity:.2f}</p><div class="two">'
        f"<figure>{image_tags(folder, und.image_paths, 'understanding side: ' + und.prompt)}"
        f"<figcaption><b>question</b> {escape(und.question)} <i>{escape(und.answer)}</i></figcaption></figure>"
        f"<figure>{image_tag(folder, gen.image_path, 'generation side: ' + gen.prompt)}"
        f"<figcaption><b>prompt</b> {escape(gen.prompt)}</figcaption></figure></div></li>"
    )


def _settings_table(name: str, values: dict[str, Any]) -> str:
    described = _descriptions(name)
    rows = "".join(
        f'<tr><th scope="row">{escape(key)}</th><td>{escape(plain(value))}</td>'
        f"<td>{escape(described.get(key, ''))}</td></tr>"
        for key, value in values.items()
    )
    return f"<table><caption>{escape(name)}</caption><tbody>{rows}</tbody></table>"


def _descriptions(section: str) -> dict[str, str]:
    classes: list[type[Settings]] = [RunSettings] if section == "run" else []
    if section in RunSettings.model_fields:
        classes = section_classes(RunSettings.model_fields[section].annotation)
    return {key: field.description or "" for cls in classes for key, field in cls.model_fields.items()}


def plain(value: Any) -> str:
    """A setting as text: truth values as in a recipe, a list without brackets."""
    if isinstance(value, list):
        return ", ".join(map(plain, value)) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value)

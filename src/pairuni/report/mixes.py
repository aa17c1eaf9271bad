"""The gradient agreement of data mixes as a self-contained page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pairuni.io.files import write_text
from pairuni.report.boxes import box_plot
from pairuni.report.document import document, table
from pairuni.report.markup import section
from pairuni.runs.mixes import (
    BASELINE,
    PAPER,
    MixesFolder,
    MixStatistics,
    groups_table,
    mix_statistics,
    statistics_table,
)
from pairuni.runs.reading import read_json

NOTE = (
    "Cosine between the exact understanding and generation gradients of a batch: above 0, the tasks pull the "
    "weights in one direction. Box: quartiles and median; whiskers: the last value within 1.5 box lengths; points: "
    "batches; diamond: the median that the paper states. A batch whose gradient of one task is zero has no cosine."
)
TABLE_NOTE = (
    "Intervals: 95%, bootstrap over batches, of 10 or more. Batches of one number have the same seed in every mix, so "
    f"differences to {BASELINE} are taken batch by batch. The paper (arXiv:2510.25682) measures other weights on other "
    "data."
)
GROUPS_NOTE = "Medians over batches. What only one task trains has no cosine and is left out."


def write_mixes(out: Path) -> Path:
    """Write ``out``/agreement.html from the batches in agreement.jsonl; returns its path.

    Raises ValueError if no batch has a cosine, or a line is wrong.
    """
    folder = MixesFolder(out)
    found = mix_statistics(folder.read())
    if not found:
        raise ValueError(
            f"no batch in {folder.batches} has a cosine: in each, the gradient of one task is zero because all rewards "
            "of a prompt are equal; raise rollout.understanding and rollout.generation"
        )
    settings = read_json(folder.settings)
    model = (settings.get("policy") or {}).get("model")
    write_text(folder.page, document("Gradient agreement", str(model or ""), mixes_sections(found)))
    return folder.page


def mixes_sections(found: Sequence[MixStatistics], prefix: str = "") -> list[str]:
    """The box plot and its tables. prefix: of the sections' ids, on a page with others."""
    boxes = box_plot(
        "Agreement by data mix",
        {one.mix: list(one.values.values()) for one in found},
        {one.mix: PAPER[one.mix] for one in found if one.mix in PAPER},
    )
    body = [
        section(f"{prefix}boxes", "Gradient agreement", boxes, NOTE),
        section(f"{prefix}statistics", "Statistics", table(statistics_table(found)), TABLE_NOTE),
    ]
    groups = groups_table(found)
    if len(groups) > 1:
        body.append(section(f"{prefix}parts", "By part of the model", table(groups), GROUPS_NOTE))
    return body

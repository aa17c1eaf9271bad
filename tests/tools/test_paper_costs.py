"""The tables of docs/paper.md are those of the plans, and the page's figures those of the paper."""

from __future__ import annotations

import re

import pytest

from pairuni.paper import pair_counts
from tools.make_paper_costs import IMAGES, PAGE, PAPER, QUESTIONS, STUDIES, with_tables


def test_every_recipe_is_on_the_page_and_in_the_costs() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for path in PAPER.glob("*.toml"):
        assert path.stem in text
    assert set(STUDIES) == {path.stem for path in (PAPER / "ablations").glob("*.toml")} - {"pairs_again"}
    evaluation = (PAPER / "evaluation.toml").read_text(encoding="utf-8")
    assert re.findall(r"^\[(\w+)\]$", evaluation, re.M) == [*QUESTIONS, *IMAGES]


def test_the_pages_counts_are_the_papers() -> None:
    text, counts = PAGE.read_text(encoding="utf-8"), pair_counts()
    assert f"| pairs | {counts.pairs:,} |" in text
    origins = counts.origins
    assert (
        f"| aligned | {counts.aligned:,}: {origins['generation']:,} from generation data, "
        f"{origins['understanding']:,} from understanding data |"
    ) in text
    low, high = counts.most_similarities
    assert (
        f"| retrieved | {counts.retrieved:,}, similarities with one peak, most from {low:g} to {high:g} |"
        in text
    )
    for name, count in counts.aligned_classes.items():
        assert f"{name} {count:,}" in text
    for name, count in list(counts.retrieved_classes.items())[:5]:
        assert f"{name} {count:,}" in text


@pytest.mark.slow
def test_the_costs_are_up_to_date() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert with_tables(text) == text, "run python tools/make_paper_costs.py"

"""The examples of docs/answers.md hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pairuni.rewards.answers import formulas
from pairuni.rewards.answers.accuracy import answers_match

PAGE = (Path(__file__).parents[2] / "docs" / "answers.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(?P<truth>[^`]+)` \| `(?P<reply>[^`]+)` \| (?P<result>right|wrong) \|$", re.M)
EXAMPLES = [
    (
        question[1] if (question := re.search(r"for the question `([^`]+)`", part)) else "What is it?",
        *row.groups(),
    )
    for part in PAGE.split("\n## ")
    for row in ROW.finditer(part)
]


@pytest.mark.parametrize(("question", "truth", "reply", "result"), EXAMPLES)
def test_examples(
    question: str, truth: str, reply: str, result: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "^{9^" in reply:  # its comparison never ends
        monkeypatch.setattr(formulas, "SECONDS", 0.5)
    assert answers_match(question, truth, reply) is (result == "right")


def test_every_table_row_is_an_example() -> None:
    rows = [line for line in PAGE.split("\n") if line.startswith("| `")]
    assert len(rows) == len(EXAMPLES) > 50

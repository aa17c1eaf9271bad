"""One table of replies for rewards, judges and completion: replies.tsv, one case a line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pairuni.chat.replies import Reply, Unusable, read_reply
from pairuni.evaluation.wise_judge import verdict_in
from pairuni.pairug.prompts import CaptionVerdict
from pairuni.rewards.accuracy import answers_match
from pairuni.rewards.judge import Mark

TABLE = Path(__file__).parent / "replies.tsv"


def read_table() -> list[tuple[str, ...]]:
    questions: dict[str, str] = {}
    rows = []
    for line in TABLE.read_text(encoding="utf-8").split("\n"):
        cells = [cell.replace("⏎", "\n") for cell in line.split("\t")]
        if line.startswith("@"):
            questions[cells[0]] = cells[1]
        elif line and not line.startswith("#"):
            reader, question, *others = cells
            rows.append((reader, questions.get(question, question), *others))
    return rows


def fields(reply: str, kind: type[Reply]) -> dict[str, object]:
    try:
        return read_reply({"text": reply, "finish": "stop"}, kind).model_dump()
    except Unusable:
        return {}


READERS: dict[str, Callable[[str, str, str], bool]] = {
    "answer": answers_match,
    "mark": lambda _, truth, reply: fields(reply, Mark).get("score") == float(truth),
    "verdict": lambda _, truth, reply: json.loads(truth).items() <= fields(reply, CaptionVerdict).items(),
    "wise": lambda _, truth, reply: verdict_in(reply) == int(truth),
}
ROWS = read_table()


@pytest.mark.parametrize(
    ("reader", "question", "truth", "reply", "right", "reason"),
    ROWS,
    ids=[f"{row[0]}-{row[2][:20]}-{row[3][:40]}" for row in ROWS],
)
def test_replies(reader: str, question: str, truth: str, reply: str, right: str, reason: str) -> None:
    assert right in ("right", "wrong")
    assert READERS[reader](question, truth, reply) is (right == "right"), reason


def test_each_case_stands_once_and_has_a_reason() -> None:
    assert len({row[:4] for row in ROWS}) == len(ROWS) > 300
    assert all(len(row) == 6 and row[5].strip() for row in ROWS)

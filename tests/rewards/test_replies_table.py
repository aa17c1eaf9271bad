"""The table of replies for rewards, judges and completion: replies.tsv, one case per line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import Field

from pairuni.chat.replies import Reply, Unusable, read_reply
from pairuni.evaluation.protocols.wise_judge import verdict_in
from pairuni.pairug.completion.options import chosen_option
from pairuni.pairug.completion.prompts import CaptionVerdict
from pairuni.rewards.answers import formulas
from pairuni.rewards.answers.accuracy import answers_match, may_need_formulas
from pairuni.rewards.judge import Mark

TABLE = Path(__file__).parent / "replies.tsv"
WRITTEN = str.maketrans({"⏎": "\n", "⇥": "\t", "␍": "\r"})


class Said(Reply):
    """A field of each type that replies have."""

    text: str
    truth: bool = True
    texts: list[str] = Field(default_factory=list)
    note: str = ""


def read_table() -> list[tuple[str, ...]]:
    questions: dict[str, str] = {}
    rows = []
    for line in TABLE.read_text(encoding="utf-8").split("\n"):
        cells = [cell.translate(WRITTEN) for cell in line.split("\t")]
        if line.startswith("@"):
            questions[cells[0]] = cells[1]
        elif line and not line.startswith("#"):
            reader, question, *others = cells
            rows.append((reader, questions.get(question, question), *others))
    return rows


def fields(reply: str, kind: type[Reply]) -> dict[str, object]:
    """The fields of a reply; of one that is refused the reason alone."""
    try:
        return read_reply({"text": reply, "finish": "stop"}, kind, {"most": 10.0}).model_dump()
    except Unusable as error:
        return {"refused": str(error)}


def is_score(_: str, truth: str, written: str) -> bool:
    found = fields(f'{{"reason": "so", "score": {written}}}', Mark)
    return found["score"] == float(truth) if truth else "score is wrong" in str(found["refused"])


READERS: dict[str, Callable[[str, str, str], bool]] = {
    "answer": answers_match,
    "mark": lambda _, truth, reply: fields(reply, Mark).get("score") == float(truth),
    "wise": lambda _, truth, reply: verdict_in(reply) == int(truth),
    "verdict": lambda _, truth, reply: json.loads(truth).items() <= fields(reply, CaptionVerdict).items(),
    "said": lambda _, truth, reply: {**fields(reply, Said), **json.loads(truth)} == fields(reply, Said),
    "refused": lambda _, truth, reply: truth in str(fields(reply, Said).get("refused", "")),
    "escape": lambda _, truth, reply: fields(f'{{"text": "{reply}", "truth": true}}', Said)["text"] == truth,
    "option": lambda _, truth, reply: (
        (chosen_option(reply, ["red", "dark blue", "3", "a cat"]) or "") == truth
    ),
    "score": is_score,
}
ROWS = read_table()


@pytest.mark.parametrize(
    ("reader", "question", "truth", "reply", "right", "reason"),
    ROWS,
    ids=[f"{row[0]}-{row[2][:20]}-{row[3][:40]}" for row in ROWS],
)
def test_replies(
    reader: str,
    question: str,
    truth: str,
    reply: str,
    right: str,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert right in ("right", "wrong")
    if "^{9^" in reply:  # its comparison never ends
        monkeypatch.setattr(formulas, "SECONDS", 0.5)
    assert READERS[reader](question, truth, reply) is (right == "right"), reason


def test_only_truths_that_may_need_formulas_are_compared_as_formulas(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []
    monkeypatch.setattr(
        "pairuni.rewards.answers.accuracy.formulas_equal", lambda truth, *_: compared.append(truth)
    )
    asked: dict[tuple[str, str], list[str]] = {}
    for reader, question, truth, reply, *_ in ROWS:
        if reader == "answer":
            asked.setdefault((question, truth), ["3 + 4 = 7", "x = 7", "$x^2$", r"\frac{1}{2}"]).append(reply)
    for (question, truth), replies in asked.items():
        compared.clear()
        for reply in replies:
            answers_match(question, truth, reply)
        assert bool(compared) <= may_need_formulas(question, truth), (question, truth)
    needing = sum(may_need_formulas(*one) for one in asked)
    assert 20 < needing < len(asked) / 2


def test_each_case_occurs_once_and_has_a_reason() -> None:
    assert len({row[:4] for row in ROWS}) == len(ROWS) > 300
    assert all(len(row) == 6 and row[5].strip() for row in ROWS)

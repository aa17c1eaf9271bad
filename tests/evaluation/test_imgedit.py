"""ImgEdit: marks in replies, micro and macro over the real edits."""

import json
from pathlib import Path

import numpy as np
import pytest

from pairuni.evaluation.protocols.imgedit import (
    TYPES,
    mark_in,
    read_edits,
    read_replies,
    score,
    write_replies,
)


@pytest.mark.parametrize(
    ("reply", "mark"),
    [
        ("Brief reasoning: fine.\nPrompt Compliance: 4\nVisual: 3\nPhysical & Detail: 3", 3.33),
        ("A: 5\n  B: 4  ", 4.5),
        ("A: 5\nB: 4.", 5),  # a line with more than digits does not count
        ("A: B: 5\nC: 2", 2),
        ("Brief reasoning: 3\nA: 5", 4),
        ("A: 5: 3", None),
        ("A:5", None),
        ("A: \u00b2", None),
        ("", None),
    ],
)
def test_marks(reply: str, mark: float | None) -> None:
    assert mark_in(reply) == mark


def reply(mark: int) -> str:
    return f"Brief reasoning: so.\nCompliance: {mark}\nNaturalness: {mark}\nDetail: {mark}"


def test_micro_and_macro_over_the_real_edits(benchmarks: Path, tmp_path: Path) -> None:
    edits = read_edits(benchmarks / "imgedit" / "basic_edit.json")
    assert len(edits) == 737
    rng = np.random.default_rng(0)
    easy = {"add": 1, "compose": 2}
    marks = {key: int(rng.integers(1, 4)) + easy.get(edit["edit_type"], 0) for key, edit in edits.items()}
    write_replies(tmp_path / "result.json", {key: reply(mark) for key, mark in marks.items()})
    result = score(read_replies(tmp_path / "result.json"), edits, judge="a judge")
    by_type = {name: [marks[k] for k in edits if edits[k]["edit_type"] == name] for name in TYPES}
    assert result.score == result.parts["micro"] == pytest.approx(sum(marks.values()) / 737)
    assert result.parts["macro"] == pytest.approx(sum(sum(m) / len(m) for m in by_type.values()) / 9)
    assert result.parts["micro"] != pytest.approx(result.parts["macro"], abs=1e-3)
    assert result.parts["add"] == pytest.approx(sum(by_type["add"]) / 95)
    assert (result.counts["extract"], result.counts["compose"]) == (117, 23)
    assert result.interval[0] < result.score < result.interval[1] < result.parts["macro"]
    assert result.protocol == "official marks, micro"


def test_what_has_no_mark_is_left_out_and_counted() -> None:
    edits = {"1": {"edit_type": "add"}, "2": {"edit_type": "add"}, "3": {"edit_type": "style"}}
    result = score({"1": reply(4), "2": "I cannot"}, edits, judge="a judge")
    assert result.score == 4
    assert (result.counts["marked"], result.counts["no mark"], result.counts["not judged"]) == (1, 1, 1)
    with pytest.raises(ValueError, match="no edit 9"):
        score({"9": reply(4)}, edits, judge="a judge")
    with pytest.raises(ValueError, match="no reply of the judge has a mark"):
        score({"1": "no"}, edits, judge="a judge")


def test_a_judge_that_failed_is_named(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps({"1": "A: 3", "77": {"error": "timeout"}}))
    with pytest.raises(ValueError, match=r"result.json: edit 77 has .*timeout"):
        read_replies(tmp_path / "result.json")

"""MMStar's reading of replies and its six categories."""

from pathlib import Path

import pytest

from pairuni.evaluation.protocols.mmstar import (
    CATEGORIES,
    is_right,
    read_predictions,
    score,
    write_predictions,
)


@pytest.mark.parametrize(
    ("prediction", "answer", "right"),
    [
        ("A", "A", True),
        ("(b) a dog", "B", True),
        ("Option C.", "C", True),
        ("The answer is D", "D", True),
        ("a man on a horse", "A", True),  # officially so
        ("It is A", "A", False),
        ("answer: B", "B", False),
        ("", "A", False),
        ("B", "A", False),
        ("The answer\nis D", "D", True),
    ],
)
def test_replies(prediction: str, answer: str, right: bool) -> None:
    assert is_right(prediction, answer) == right


def test_categories_and_all(tmp_path: Path) -> None:
    rows = [
        {
            "index": f"{place} {i}",
            "answer": "A",
            "category": category,
            "prediction": "A" if i < place else "B",
        }
        for place, category in enumerate(CATEGORIES)
        for i in range(5)
    ]
    write_predictions(tmp_path / "p.jsonl", rows)
    result = score(read_predictions(tmp_path / "p.jsonl"))
    assert result.score == pytest.approx(100 * 15 / 30)
    assert list(result.parts.values()) == pytest.approx([0, 20, 40, 60, 80, 100])
    assert result.interval[0] < 50 < result.interval[1]
    with pytest.raises(ValueError, match="question 2 1 is answered 2 times"):
        score([*rows, rows[11]])
    with pytest.raises(ValueError, match="no category 'maths'"):
        score([{"answer": "A", "category": "maths", "prediction": "A"}])
    (tmp_path / "bad.jsonl").write_text('{"answer": "A", "category": "math"}\n')
    with pytest.raises(ValueError, match=r"bad.jsonl, line 1: lacks prediction"):
        read_predictions(tmp_path / "bad.jsonl")

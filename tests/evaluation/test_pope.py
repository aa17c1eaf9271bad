"""POPE against the official rules, on the three real files with replies of several kinds."""

import random
from pathlib import Path

import pytest

from pairuni.evaluation.protocols.pope import (
    SPLITS,
    Question,
    read_questions,
    read_replies,
    says_yes,
    score,
    write_replies,
)
from reference import benchmark_rules

YES = ["Yes", "yes.", "Yes, there is. No doubt.", "There is one, but nobody knows", "nothing", "", "NO"]
NO = ["No", "no.", "No, there is not", "It is not there", "There is no, such thing", "I do not. Yes"]


@pytest.mark.parametrize("reply", YES)
def test_yes(reply: str) -> None:
    assert says_yes(reply)


@pytest.mark.parametrize("reply", NO)
def test_no(reply: str) -> None:
    assert not says_yes(reply)


def test_the_official_scores_of_real_files(benchmarks: Path, tmp_path: Path) -> None:
    draw = random.Random(0)
    splits = {}
    for name in SPLITS:
        questions = read_questions(benchmarks / "pope" / f"coco_pope_{name}.json")
        assert len(questions) == 3000
        assert sum(question.truth for question in questions) == 1500
        replies = [draw.choice(YES if q.truth == (draw.random() < 0.8) else NO) for q in questions]
        write_replies(tmp_path / name, questions, replies)
        splits[name] = (questions, read_replies(tmp_path / name, questions))
    result = score(splits)
    for name, (questions, replies) in splits.items():
        expected = benchmark_rules.pope(["yes" if q.truth else "no" for q in questions], replies)
        for key, value in expected.items():
            assert result.parts[f"{name} {key}"] == pytest.approx(100 * value, rel=1e-12)
    assert result.score == pytest.approx(sum(result.parts[f"{name} F1"] for name in SPLITS) / 3)
    low, high = result.interval
    assert result.score - 2 < low < result.score < high < result.score + 2


def test_the_interval_knows_that_the_splits_share_their_images() -> None:
    draw = random.Random(1)
    questions = [Question(f"{i // 6}.jpg", f"Is there {i}?", i % 2 == 0) for i in range(600)]
    bad = {f"{i}.jpg" for i in range(100) if draw.random() < 0.3}
    replies = ["yes" if q.truth != (q.image in bad) else "no" for q in questions]
    one = score({"random": (questions, replies)})
    all_alike = score(dict.fromkeys(SPLITS, (questions, replies)))
    assert all_alike.score == pytest.approx(one.score)
    assert all_alike.interval == pytest.approx(one.interval)  # the same images thrice tell no more than once
    assert one.protocol == "official, partial (600 of 9,000)"


def test_the_yes_rate_is_of_what_was_said() -> None:
    questions = [Question(f"{i}.jpg", "Is there?", i < 2) for i in range(4)]
    always = score({"random": (questions, ["yes"] * 4)})
    never = score({"random": (questions, ["no"] * 4)})
    assert (always.parts["random yes-rate"], never.parts["random yes-rate"]) == (100, 0)
    assert (always.parts["random recall"], always.parts["random precision"]) == (100, 50)
    assert (never.parts["random precision"], never.parts["random F1"], never.score) == (0, 0, 0)


def test_answers_of_other_questions_are_refused(tmp_path: Path) -> None:
    questions = [Question("a.jpg", "Is there a dog?", True), Question("a.jpg", "Is there a cat?", False)]
    write_replies(tmp_path / "answers.json", questions, ["yes", "no"])
    with pytest.raises(ValueError, match="2 answers to 1 questions"):
        read_replies(tmp_path / "answers.json", questions[:1])
    with pytest.raises(ValueError, match=r"answers.json, answer 1: the question is not"):
        read_replies(tmp_path / "answers.json", questions[::-1])

"""GenEval's decision on detections against the official rules, for each of the six kinds of real prompts."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pairuni.evaluation.protocols.geneval_files import (
    TASKS,
    Judged,
    image_path,
    read_results,
    score,
    write_prompt,
    write_results,
)
from pairuni.rewards.composition.detection import Detection, geneval_name
from pairuni.rewards.composition.rules import Verdict, confident_objects, judge, positions
from reference import benchmark_rules


def test_images_of_one_prompt_are_not_counted_as_independent() -> None:
    def judged(samples: int) -> list[Judged]:
        return [
            Judged(
                f"{tag} {n} {k}",
                {"tag": tag, "include": [], "prompt": f"{tag} {n}"},
                Verdict(n % 3 > 0, ""),
                {},
            )
            for tag in TASKS
            for n in range(30)
            for k in range(samples)
        ]

    once, four_times = score(judged(1), detector="d"), score(judged(4), detector="d")
    assert four_times.interval == pytest.approx(once.interval)
    assert once.protocol == "official rules, partial (180 of 553)"
    assert four_times.protocol == "official rules, partial (720 of 2,212)"
    with pytest.raises(ValueError, match="counting 0 0 is judged 2 times"):
        score([*judged(1), judged(1)[60]], detector="d")


def test_an_object_must_be_surer_than_the_threshold() -> None:
    found = {"dog": [replace(box(0, 0), confidence=0.3), replace(box(9, 9), confidence=0.31)]}
    assert [one.confidence for one in confident_objects(found, "colors")["dog"]] == [0.31]


def box(x: float, y: float, size: float = 10) -> Detection:
    return Detection((x - size / 2, y - size / 2, x + size / 2, y + size / 2), 0.9, "dog")


def test_positions_against_the_official_rule() -> None:
    rng = np.random.default_rng(1)
    seen: Counter[str] = Counter()
    for _ in range(3000):
        a, b = (np.sort(rng.uniform(0, 100, (2, 2)), axis=0).ravel() for _ in range(2))
        ours = positions(Detection(tuple(a), 1.0), Detection(tuple(b), 1.0))
        assert ours == benchmark_rules.geneval_position(a, b)
        seen[" ".join(sorted(ours))] += 1
    assert len(seen) >= 8  # four sides, corners, nothing


def test_positions_by_hand() -> None:
    assert positions(box(0, 0), box(100, 0)) == {"left of"}
    assert positions(box(0, 0), box(0, 100)) == {"above"}
    assert positions(box(100, 100), box(0, 0)) == {"right of", "below"}
    assert positions(box(0, 0), box(0, 0)) == set()
    assert positions(box(2, 0), box(0, 0)) == set()  # within a tenth of both widths
    assert positions(box(4, 0), box(0, 0)) == set()  # of the offset 4 only 2 are clear: not more than half
    assert positions(box(4.1, 0), box(0, 0)) == {"right of"}


def test_the_most_confident_objects_decide() -> None:
    dogs = [
        Detection((0, 0, 10, 10), 0.5, "dog", colour="red"),
        Detection((0, 0, 10, 10), 0.8, "dog", colour="blue"),
    ]
    metadata = {"tag": "colors", "include": [{"class": "dog", "count": 1, "color": "red"}], "prompt": "-"}
    verdict = judge(metadata, confident_objects({"dog": dogs}, "colors"))
    assert verdict.reason == "expected red dog>=1, found 0 red; and 1 blue"
    assert confident_objects({"dog": dogs}, "counting") == {}
    crowd = [Detection((0, 0, 1, 1), 0.91 + 0.001 * i) for i in range(30)]
    assert confident_objects({"ant": crowd}, "counting")["ant"] == crowd[:13:-1]


def test_too_many_and_no_target() -> None:
    many = {"tag": "counting", "prompt": "-", "include": [{"class": "cup", "count": 2}]}
    many["exclude"] = [{"class": "cup", "count": 3}]
    assert judge(many, {"cup": [box(0, 0)] * 2}).correct
    assert judge(many, {"cup": [box(0, 0)] * 3}).reason == "expected cup<3, found 3"
    beside = [{"class": "dog", "count": 1}, {"class": "cat", "count": 1, "position": ["left of", 0]}]
    verdict = judge({"tag": "position", "prompt": "-", "include": beside}, {"cat": [box(0, 0)]})
    assert verdict.reason == "expected dog>=1, found 0\nno target for cat to be left of"


def judged(task: str, prompt: str, marks: Sequence[bool]) -> list[Judged]:
    metadata = {"tag": task, "include": [{"class": "dog", "count": 1}], "prompt": prompt}
    return [
        Judged(
            f"{prompt}-{i}.png",
            metadata,
            judge(metadata, {"dog": [box(0, 0)] * mark}),
            {"dog": [box(1, 2)]},
        )
        for i, mark in enumerate(marks)
    ]


def test_the_overall_is_the_mean_of_six(tmp_path: Path) -> None:
    rows = [
        row
        for place, task in enumerate(TASKS)
        for prompt in range(3 if task == "position" else 1)
        for row in judged(task, f"{task} {prompt}", [i < place % 5 for i in range(4)])
    ]
    write_results(tmp_path / "results.jsonl", rows)
    back = read_results(tmp_path / "results.jsonl")
    assert [one.objects for one in back] == [one.objects for one in rows]
    result = score(back, detector="a detector")
    assert {task: result.parts[task] for task in TASKS} == dict(
        zip(TASKS, (0, 25, 50, 75, 100, 0), strict=True)
    )
    assert result.score == pytest.approx(250 / 6)
    assert result.parts["pictures right"] == pytest.approx(100 * 18 / 32)
    assert result.parts["prompts right once"] == pytest.approx(100 * 6 / 8)
    assert result.settings["prompts"] == "rewritten"
    photos = [replace(one, metadata={**one.metadata, "prompt": "a photo of a dog"}) for one in back]
    assert score(photos, detector="a detector").settings["prompts"] == "original"
    first = json.loads((tmp_path / "results.jsonl").read_text().splitlines()[0])
    assert set(first) == {"filename", "tag", "prompt", "correct", "reason", "metadata", "details"}
    assert json.loads(first["details"]) == {"dog": [[-4, -3, 6, 7, 0.9]]}
    with pytest.raises(ValueError, match="missing: color_attr"):
        score([one for one in back if one.metadata["tag"] != "color_attr"], detector="a detector")


def test_the_folder_of_images(tmp_path: Path) -> None:
    metadata = {
        "tag": "single_object",
        "include": [{"class": "bench", "count": 1}],
        "prompt": "a photo of a bench",
    }
    write_prompt(tmp_path, 7, metadata)
    assert json.loads((tmp_path / "00007" / "metadata.jsonl").read_text()) == metadata
    assert image_path(tmp_path, 7, 3) == tmp_path / "00007" / "samples" / "00003.png"


def test_names_are_genevals(benchmarks: Path) -> None:
    geneval = (benchmarks / "geneval" / "object_names.txt").read_text().split("\n")
    coco = {"computer mouse": "mouse", "tv remote": "remote", "computer keyboard": "keyboard"}
    for name in filter(None, geneval):
        assert geneval_name(coco.get(name, name)) == geneval_name(name) == name
    assert [geneval_name(name) for name in ("diningtable", "Hair Dryer", "unicorn")] == [
        "dining table",
        "hair drier",
        "unicorn",
    ]

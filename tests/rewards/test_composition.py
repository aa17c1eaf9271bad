"""The reward composition with scripted detectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tiny_detectors
from pairuni.config import CompositionSettings, RewardSettings
from pairuni.records import Annotation
from pairuni.rewards.composition.detection import Detection
from pairuni.rewards.composition.loading import load_detector
from pairuni.rewards.composition.pipeline import DetectionPipeline
from pairuni.rewards.composition.reward import CompositionReward
from pairuni.rewards.composition.rules import COLOURS, RELATIONS, grade, judge
from pairuni.rewards.registry import image_reward
from reference import benchmark_rules

BLANK = Image.new("RGB", (8, 8))


class Told:
    """Returns the given detections for any images."""

    name, names_colours = "told", False
    labels = frozenset({"dog", "cat", "cup"})

    def __init__(self, *found: list[Detection]) -> None:
        self.found = list(found)

    def __call__(self, images: Sequence[Image.Image]) -> list[list[Detection]]:
        return self.found


class Painted:
    """Names the colour with the index of the box's right edge, and records the objects."""

    name = "painted"

    def __init__(self) -> None:
        self.asked: list[Detection] = []

    def __call__(self, objects: Sequence[tuple[Image.Image, Detection]]) -> list[str]:
        self.asked += [one for _, one in objects]
        return [COLOURS[int(one.box[2]) % 10] for _, one in objects]


def one(label: str, confidence: float = 0.95, x: float = 0, y: float = 0) -> Detection:
    return Detection((x, y, x + 10, y + 10), confidence, label)


def record(**extra: Any) -> Annotation:
    return Annotation.model_validate(
        {"image_path": "a.png", "prompt": "a drawing", "question": "q", "answer": "a", **extra}
    )


def scores(mode: Any, asked: dict[str, Any], *found: Detection) -> float:
    reward = CompositionReward(DetectionPipeline(Told(list(found)), Painted()), mode=mode)
    return reward([record(**asked)], [BLANK])[0]


def test_facts_are_counted_and_strict_is_all_or_nothing() -> None:
    cups = {"tag": "counting", "include": [{"class": "cup", "count": 3}]}
    cups["exclude"] = [{"class": "cup", "count": 4}]
    assert scores("graded", cups, one("cup"), one("cup")) == 3 / 4
    assert scores("graded", cups, *[one("cup")] * 3) == scores("strict", cups, *[one("cup")] * 3) == 1.0
    assert scores("graded", cups, *[one("cup")] * 4) == 3 / 4
    assert scores("graded", cups, *[one("cup")] * 2, one("cup", 0.8)) == 3 / 4
    assert scores("graded", {**cups, "tag": ""}, *[one("cup")] * 2, one("cup", 0.8)) == 1.0
    assert scores("strict", cups, one("cup"), one("cup")) == 0.0

    red_dog = {"include": [{"class": "dog", "count": 1, "color": "red"}]}
    assert scores("graded", red_dog, one("dog", x=0)) == 1.0
    assert scores("graded", red_dog, one("dog", x=1)) == 0.5
    assert scores("graded", red_dog, one("cat")) == 0.0

    beside = {
        "include": [{"class": "dog", "count": 1}, {"class": "cat", "count": 1, "position": ["left of", 0]}]
    }
    assert scores("graded", beside, one("dog", x=90), one("cat")) == 1.0
    assert scores("graded", beside, one("dog"), one("cat", x=90)) == 2 / 3
    assert scores("graded", beside, one("cat", x=90)) == 1 / 3


@pytest.mark.parametrize("found", [one("dog", float("nan")), one("dog", x=float("inf"))])
def test_a_detection_that_is_not_finite_is_an_error(found: Detection) -> None:
    with pytest.raises(ValueError, match=r"the detector told returned Detection.*not finite"):
        scores("graded", {"include": [{"class": "dog", "count": 1}]}, found)


class Colourless:
    name, labels = "colourless", frozenset({"dog"})

    def __call__(self, images: Sequence[Image.Image]) -> list[list[Detection]]:
        return []


def test_an_invalid_detector_class_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"'test_composition:Colourless': .* must have `names_colours`, a bool"
    ):
        load_detector("test_composition:Colourless")


def test_only_required_colours_of_the_most_confident_objects_are_classified() -> None:
    painted = Painted()
    dogs = [one("dog", 0.5, x=1), one("dog", 0.8, x=2), one("cat", 0.9, x=3), one("dog", 0.2, x=4)]
    asked = record(include=[{"class": "dog", "count": 1, "color": "yellow"}, {"class": "cat", "count": 1}])
    plain = record(include=[{"class": "cat", "count": 1}])
    reward = CompositionReward(DetectionPipeline(Told(dogs, dogs), painted), mode="strict")
    assert reward([asked, plain], [BLANK, BLANK]) == [1.0, 1.0]
    assert painted.asked == [dogs[1]]


def test_a_grade_of_1_is_the_official_decision() -> None:
    rng = np.random.default_rng(0)
    seen: Counter[bool] = Counter()
    for _ in range(2000):
        include: list[dict[str, Any]] = []
        for place in range(int(rng.integers(1, 4))):
            clause: dict[str, Any] = {
                "class": str(rng.choice(["dog", "cat", "cup"])),
                "count": int(rng.integers(1, 3)),
            }
            if rng.random() < 0.4:
                clause["color"] = str(rng.choice(COLOURS[:2]))
            if place and rng.random() < 0.5:
                clause["position"] = [str(rng.choice(RELATIONS)), int(rng.integers(place))]
            include.append(clause)
        asked = {"include": include, "exclude": [{"class": "cup", "count": 3}]}
        objects = {
            name: [
                Detection((x, y, x + 9, y + 9), 0.9, name, colour=str(rng.choice(COLOURS[:2])))
                for x, y in rng.uniform(0, 99, (int(rng.integers(1, 4)), 2))
            ]
            for name in ("dog", "cat", "cup")
        }
        literal = {
            name: [(np.array(one.box), one.colour) for one in found] for name, found in objects.items()
        }
        right = benchmark_rules.geneval_correct(asked, literal)
        assert judge(asked, objects).correct == (grade(asked, objects) == 1.0) == right
        seen[right] += 1
    assert min(seen.values()) > 100


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({}, "the record with the prompt 'a drawing' requires no objects; it needs \"include\""),
        ({"include": [{"class": "dogs", "count": 1}]}, "the class 'dogs', which .* did you mean 'dog'"),
        ({"include": [{"class": "dog", "count": 0}]}, "clause 0 of 'include' has the count 0"),
        ({"include": [{"class": "dog", "count": 1, "colour": "red"}]}, "has the unknown key 'colour'"),
        ({"include": [{"class": "dog", "count": 1, "color": "mauve"}]}, "names the colour 'mauve'"),
        (
            {"include": [{"class": "dog", "count": 1, "position": ["above", 0]}]},
            "number of an earlier clause",
        ),
        ({"include": "a dog"}, "'include' is not a list of clauses"),
        (
            {"include": [{"class": "dog", "count": 1}], "exclude": ["cat"]},
            "clause 0 of 'exclude' is not an object",
        ),
    ],
)
def test_invalid_metadata_is_reported(extra: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        CompositionReward(DetectionPipeline(Told([]), Painted()))([record(**extra)], [BLANK])


def test_a_detector_that_fails_is_reported() -> None:
    asked = record(include=[{"class": "dog", "count": 1}])
    with pytest.raises(ValueError, match="the detector told returned 1 lists of objects for 2 images"):
        CompositionReward(DetectionPipeline(Told([]), Painted()))([asked, asked], [BLANK, BLANK])
    with pytest.raises(ValueError, match="the detector told names no colours"):
        DetectionPipeline(Told([]), None)


def test_composition_by_name_with_transformers_models(tmp_path: Path) -> None:
    settings = CompositionSettings(
        detector=str(tiny_detectors.yolos(tmp_path / "yolos")),
        clip=str(tiny_detectors.clip(tmp_path / "clip")),
        device="cpu",
        threshold=0.1,
    )
    reward = image_reward("composition", RewardSettings(composition=settings))
    asked = record(include=[{"class": "couch", "count": 1, "color": "red"}, {"class": "cup", "count": 1}])
    images = [Image.effect_noise((64, 40), 90).convert("RGB") for _ in range(3)]
    given = reward([asked] * 3, images)
    assert all(score in {0, 1 / 3, 2 / 3, 1} for score in given)

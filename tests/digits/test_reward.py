"""The graded generation reward against a literal oracle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pairuni.digits.detectors import Seen
from pairuni.digits.language import Request, caption, parse, sentence
from pairuni.digits.prompts import PROMPT_KINDS, random_request, scene_for
from pairuni.digits.reward import DigitsReward, grade
from pairuni.digits.scans import load_scans
from pairuni.digits.scenes import COLOURS, PLACES, Scene, random_scene, random_things, render
from pairuni.records import Annotation
from pairuni.rewards.registry import image_reward
from reference.digits_world import literal_grade, literal_satisfies

DIGITS = [*range(10), None]
COLOURS_SEEN = [*COLOURS, None]


def seen_of(scene: Scene) -> list[Seen]:
    return [Seen(thing.place, thing.digit, thing.colour) for thing in scene.things]


def a_request(rng: np.random.Generator, row: int) -> Request:
    if row % 7 == 6:
        return parse(caption(Scene.of(random_things(rng, int(rng.integers(1, 5))))))
    return random_request(rng, PROMPT_KINDS[row % 7], "train" if rng.random() < 0.5 else "held-out")


def spoiled(rng: np.random.Generator, request: Request) -> list[Seen]:
    """An image that shows the request with some facts changed and some things dropped or added."""
    things = seen_of(scene_for(request, rng, None))
    for index, thing in enumerate(things):
        if rng.random() < 0.4:
            thing = replace(thing, digit=DIGITS[rng.integers(11)])
        if rng.random() < 0.4:
            thing = replace(thing, colour=COLOURS_SEEN[rng.integers(5)])
        things[index] = thing
    if rng.random() < 0.3:
        things.pop(rng.integers(len(things)))
    free = [place for place in PLACES if place not in {thing.place for thing in things}]
    for place in free:
        if rng.random() < 0.2:
            things.append(Seen(place, DIGITS[rng.integers(11)], COLOURS_SEEN[rng.integers(5)]))
    return things


def test_grades_equal_the_oracle_and_stay_between_zero_and_one() -> None:
    rng = np.random.default_rng(0)
    grades = []
    for row in range(1000):
        request = a_request(rng, row)
        things = spoiled(rng, request)
        grades.append(grade(request, things))
        assert grades[-1] == pytest.approx(literal_grade(request, things)[0]), (sentence(request), things)
    assert min(grades) >= 0.0
    assert max(grades) == 1.0
    assert len(set(grades)) > 10


def test_one_only_for_a_image_wholly_right() -> None:
    rng = np.random.default_rng(1)
    both = {True: 0, False: 0}
    for row in range(1000):
        request = a_request(rng, row)
        right = scene_for(request, rng, None)
        assert grade(request, seen_of(right)) == 1.0
        things = spoiled(rng, request)
        known = all(thing.digit is not None and thing.colour is not None for thing in things)
        if known:
            scene = random_scene(rng, "train") if row % 2 else Scene.of(things)
            satisfied = literal_satisfies(scene, request)
            both[satisfied] += 1
            assert (grade(request, seen_of(scene)) == 1.0) == satisfied
        else:
            assert grade(request, things) < 1.0
    assert min(both.values()) > 30


def test_fixing_a_fact_never_lowers_the_grade() -> None:
    rng = np.random.default_rng(2)
    raised = 0
    for row in range(700):
        request = a_request(rng, row)
        things = spoiled(rng, request)
        before, chosen = literal_grade(request, things)
        for wanted, index in zip(request.wanted, chosen, strict=True):
            if index is None:
                continue
            fixes = [replace(things[index], digit=wanted.digit)]
            if wanted.colour is not None:
                fixes.append(replace(things[index], colour=wanted.colour))
            if wanted.place is not None:
                fixes.append(replace(things[index], place=wanted.place))
            for fixed in fixes:
                after = grade(request, [*things[:index], fixed, *things[index + 1 :]])
                assert after >= before - 1e-12
                raised += after > before
    assert raised > 150


def test_a_thing_too_many_costs() -> None:
    rng = np.random.default_rng(3)
    for row in range(300):
        request = a_request(rng, row)
        things = seen_of(scene_for(request, rng, None))
        last = 1.0
        for place in [place for place in PLACES if place not in {thing.place for thing in things}]:
            things.append(Seen(place, int(rng.integers(10)), list(COLOURS)[rng.integers(4)]))
            now = grade(request, things)
            assert now < last or now == last == 0.0
            last = now


def test_a_colour_that_is_none_of_the_worlds_costs() -> None:
    odd = [Seen("top left", 7, None)]
    assert grade(parse("a seven"), odd) == 0.5
    assert grade(parse("a red seven"), odd) == pytest.approx(1 / 3)
    assert grade(parse("a red seven"), [Seen("top left", 7, "red")]) == 1.0


def test_an_empty_image_earns_nothing() -> None:
    assert grade(parse("a red seven"), []) == 0.0


def test_images_in_scores_out() -> None:
    rng = np.random.default_rng(4)
    requests = [a_request(rng, row) for row in range(60)]
    records = [
        Annotation(image_path="-", prompt=sentence(request), question="-", answer="-") for request in requests
    ]
    scenes = [scene_for(request, rng, None) for request in requests]
    pictures = [Image.fromarray(render(scene, rng, load_scans("reward"))) for scene in scenes]
    reward = DigitsReward()
    scores = reward(records, pictures)
    assert np.mean(np.array(scores) == 1.0) > 0.95
    assert reward(records, [Image.new("RGB", (32, 32))] * 60) == [0.0] * 60
    others = reward(records, pictures[1:] + pictures[:1])
    assert np.mean(others) < 0.8
    assert all(0.0 <= score <= 1.0 for score in others)


def test_it_is_registered_and_refuses_other_prompts() -> None:
    reward = image_reward("digits")
    assert isinstance(reward, DigitsReward)
    record = Annotation(image_path="-", prompt="a photo of a cat", question="-", answer="-")
    with pytest.raises(ValueError, match="not of the digits world"):
        reward([record], [Image.new("RGB", (32, 32))])

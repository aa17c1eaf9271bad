"""Scenes, words and questions against literal oracles; the world on disk; nothing held out is trained on."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from pairuni.digits.language import RELATIONS, Request, Wanted, caption, parse, sentence
from pairuni.digits.prompts import (
    PROMPT_KINDS,
    all_scenes,
    fits,
    random_request,
    related,
    satisfies,
    scene_for,
)
from pairuni.digits.questions import (
    LETTER_SUFFIX,
    LETTERS,
    OPEN_RELATIONS,
    QUESTION_KINDS,
    QuestionKind,
    open_questions,
    without_options,
)
from pairuni.digits.questions import random_question as draw_question
from pairuni.digits.scans import GLYPH, load_scans
from pairuni.digits.scenes import (
    CELL,
    COLOURS,
    PLACES,
    SIZE,
    Scene,
    Thing,
    random_scene,
    random_things,
    render,
    split_of,
)
from pairuni.digits.world import World, held_out_items, write_world
from pairuni.records import GenerationSample, UnderstandingSample
from reference.digits_world import literal_answer, literal_fits, literal_related, literal_satisfies
from source_data import read_generation, read_understanding


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return write_world(tmp_path_factory.mktemp("world"), seed=3, understanding=200, generation=240)


def scene_in(record: UnderstandingSample | GenerationSample) -> Scene:
    return Scene.from_json((record.model_extra or {})["scene"])


def drawn_scenes(count: int, seed: int = 0) -> list[Scene]:
    rng = np.random.default_rng(seed)
    return [Scene.of(random_things(rng, 1 + row % 4)) for row in range(count)]


def drawn_requests(count: int, seed: int = 0) -> list[Request]:
    """Of all six kinds, and what captions ask for."""
    rng = np.random.default_rng(seed)
    splits = ("train", "held-out")
    requests = [random_request(rng, PROMPT_KINDS[row % 6], splits[row // 6 % 2]) for row in range(count // 2)]
    return requests + [parse(caption(scene)) for scene in drawn_scenes(count - len(requests), seed)]


# ---- who may see what


def test_scans_of_the_groups_never_cross() -> None:
    ids = {group: set(load_scans(group).ids.tolist()) for group in ("reward", "evaluation", "held-out")}
    assert not ids["reward"] & ids["evaluation"]
    assert not ids["held-out"] & (ids["reward"] | ids["evaluation"])
    assert set(load_scans("train").ids.tolist()) == ids["reward"] | ids["evaluation"]
    assert sum(map(len, ids.values())) == 1797
    for group in ids:
        assert set(load_scans(group).digits.tolist()) == set(range(10))


@pytest.mark.parametrize("split", ["train", "held-out"])
def test_images_are_drawn_with_scans_of_their_split(split: str) -> None:
    everything = np.concatenate([load_scans("train").glyphs, load_scans("held-out").glyphs])
    ids = np.concatenate([load_scans("train").ids, load_scans("held-out").ids])
    unit = everything.reshape(len(everything), -1)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    allowed = set(load_scans(split).ids.tolist())
    rng = np.random.default_rng(7)
    for _ in range(25):
        scene = random_scene(rng, split)
        picture = render(scene, rng).max(axis=-1).astype(np.float32)
        for thing in scene.things:
            row, column = PLACES[thing.place]
            cell = picture[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL]
            crops = [cell[y : y + GLYPH, x : x + GLYPH].ravel() for y in range(1, 3) for x in range(1, 3)]
            cosines = unit @ np.stack(crops).T / np.linalg.norm(crops, axis=1)
            best = int(cosines.max(axis=1).argmax())
            assert cosines.max() > 0.999
            assert int(ids[best]) in allowed


def test_scenes_and_prompts_never_cross(world: World) -> None:
    asked, drawn = read_understanding(world.understanding), read_generation(world.generation)
    held = held_out_items(3, 300)
    trained = {scene_in(sample).key for sample in [*asked, *drawn]}
    assert all(scene_in(sample).split == "train" for sample in [*asked, *drawn])
    prompts = {sample.prompt for sample in drawn} | {caption(scene_in(sample)) for sample in asked}
    assert all(split_of(prompt) == "train" for prompt in prompts)
    assert all(split_of(item.prompt) == "held-out" for item in held.generation)
    assert not prompts & {item.prompt for item in held.generation}
    rng = np.random.default_rng(0)
    assert not trained & {random_scene(rng, "held-out").key for _ in range(300)}


# ---- on disk


def test_ordinary_readers_read_it(world: World) -> None:
    asked, drawn = read_understanding(world.understanding), read_generation(world.generation)
    assert (len(asked), len(drawn)) == (200, 240)
    assert set(Counter(sample.tag for sample in asked).values()) == {200 // len(QUESTION_KINDS)}
    assert set(Counter(sample.tag for sample in drawn).values()) == {240 // len(PROMPT_KINDS)}
    for sample in asked[:100]:
        text, answer = without_options(sample.question, sample.answer)
        assert literal_answer(scene_in(sample), text) == answer
    assert all(literal_satisfies(scene_in(sample), parse(sample.prompt)) for sample in drawn)


def test_held_out_items_are_balanced_and_true() -> None:
    held = held_out_items(11, 300)
    assert set(Counter(item.question.kind for item in held.understanding).values()) == {60}
    assert set(Counter(item.kind for item in held.generation).values()) == {50}
    assert {item.image.size for item in held.understanding} == {(SIZE, SIZE)}
    with_options = sum(item.question.text.endswith(LETTER_SUFFIX) for item in held.understanding)
    assert 110 < with_options < 190


def test_the_seed_decides_everything(tmp_path: Path) -> None:
    def digest(folder: str, seed: int) -> list[str]:
        made = write_world(tmp_path / folder, seed=seed, understanding=12, generation=12)
        files = sorted(path for path in made.understanding.parent.parent.rglob("*") if path.is_file())
        assert len(files) == 26
        return [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]

    assert digest("a", 5) == digest("b", 5)
    assert digest("c", 6) != digest("a", 5)
    first, again, other = (held_out_items(seed, 20) for seed in (5, 5, 6))
    assert [item.question for item in first.understanding] == [item.question for item in again.understanding]
    assert first.generation == again.generation != other.generation


# ---- words


def test_captions_and_prompts_are_read_back() -> None:
    for scene in drawn_scenes(1000):
        request = parse(caption(scene))
        wanted = [Wanted(thing.digit, thing.colour, thing.place) for thing in scene.things]
        assert list(request.wanted) == wanted
        assert request.relation is None
        assert literal_satisfies(scene, request)
    for request in drawn_requests(800):
        assert parse(sentence(request)) == request
        assert parse(f" {sentence(request).capitalize()}. ") == request


@pytest.mark.parametrize("prompt", ["", "a cat", "five sevens", "a red", "a seven left of", "two seven"])
def test_other_words_are_refused(prompt: str) -> None:
    with pytest.raises(ValueError, match="not of the digits world"):
        parse(prompt)


def test_satisfies_fits_and_related_against_the_oracle() -> None:
    for relation in RELATIONS:
        for first in PLACES:
            for second in PLACES:
                assert related(relation, first, second) == literal_related(relation, first, second)
    # Few digits and colours, so that many requests nearly hold.
    rng = np.random.default_rng(2)

    def few(count: int) -> Scene:
        places = [str(place) for place in rng.permutation(list(PLACES))[:count]]
        return Scene.of(Thing(p, int(rng.integers(2)), ["red", "blue"][rng.integers(2)]) for p in places)

    outcomes = Counter[bool]()
    for _ in range(2000):
        scene, other = few(int(rng.integers(1, 4))), few(int(rng.integers(1, 4)))
        wanted = tuple(
            Wanted(t.digit, t.colour if rng.random() < 0.5 else None, t.place if rng.random() < 0.3 else None)
            for t in other.things
        )
        relation = str(rng.choice(list(RELATIONS))) if len(wanted) == 2 and rng.random() < 0.5 else None
        request = Request(wanted, relation)
        outcomes[literal_satisfies(scene, request)] += 1
        assert satisfies(scene, request) == literal_satisfies(scene, request), (scene, request)
        assert fits(wanted[0], scene.things[0]) == literal_fits(wanted[0], scene.things[0])
    assert min(outcomes.values()) > 100


def test_all_scenes_are_those_that_satisfy() -> None:
    places, digits = list(PLACES), (3, 7)
    ones = [Thing(place, digit, colour) for place in places for digit in digits for colour in COLOURS]
    scenes = [Scene.of([one]) for one in ones]
    scenes += [Scene.of([a, b]) for a in ones for b in ones if places.index(a.place) < places.index(b.place)]
    for prompt in ("a three", "a red seven", "two threes", "a three and a seven", "a three above a seven"):
        request = parse(prompt)
        expected = {scene for scene in scenes if literal_satisfies(scene, request)}
        made = all_scenes(request)
        assert len(made) == len(set(made))
        assert set(made) == expected
    assert all_scenes(parse("a red three top left and a blue three top left")) == []


def test_scene_for_shows_what_is_asked() -> None:
    rng = np.random.default_rng(1)
    for row, request in enumerate(drawn_requests(400, seed=1)):
        assert literal_satisfies(scene_for(request, rng, None), request)
        if row < 200:
            scene = scene_for(request, rng, "train")
            assert scene.split == "train"
            assert literal_satisfies(scene, request)


# ---- questions


def test_answers_of_all_questions_against_the_oracle() -> None:
    kinds = Counter[str]()
    for scene in drawn_scenes(400, seed=4):
        for text, question in open_questions(scene).items():
            kinds[question.kind] += 1
            assert literal_answer(scene, text) == question.answer
            assert question.answer in question.domain
            assert len(set(question.domain)) == len(question.domain)
    assert set(kinds) == set(get_args(QuestionKind))


def test_the_relations_set_asks_open_questions_of_its_kinds_equally_often() -> None:
    asked = held_out_items(7, 60, OPEN_RELATIONS).understanding
    assert Counter(one.question.kind for one in asked) == dict.fromkeys(OPEN_RELATIONS.kinds, 10)
    assert not any(one.question.text.endswith(LETTER_SUFFIX) for one in asked)
    assert "add" not in OPEN_RELATIONS.kinds


def test_options_hold_the_answer_once_and_letters_are_balanced() -> None:
    rng = np.random.default_rng(5)
    letters = Counter[str]()
    for scene in drawn_scenes(800, seed=6):
        kind = QUESTION_KINDS[rng.integers(len(QUESTION_KINDS))]
        question = draw_question(rng, scene, kind, multiple_choice=True)
        if question is None:
            continue
        assert question.text.endswith(LETTER_SUFFIX)
        listed = question.text.removesuffix(LETTER_SUFFIX).split("? ", 1)[1].split()
        options = " ".join(listed).split(". ")
        assert [part.split()[-1] for part in options[:-1]] == list(LETTERS)
        open_text, answer = without_options(question.text, question.answer)
        right = [
            letter
            for letter in LETTERS
            if without_options(question.text, letter)[1] == literal_answer(scene, open_text)
        ]
        assert right == [question.answer]
        assert answer == literal_answer(scene, open_text)
        letters[question.answer] += 1
    assert min(letters[letter] for letter in LETTERS) > 0.2 * letters.total()


def test_open_questions_stay_as_they_are_and_strange_letters_are_refused() -> None:
    assert without_options("where is the red digit?", "top left") == ("where is the red digit?", "top left")
    text = f"where is the red digit? A. top left B. top right {LETTER_SUFFIX}"
    assert without_options(text, "B") == ("where is the red digit?", "top right")
    for answer in ("C", "AB", "", "top left"):
        with pytest.raises(ValueError, match="none of the letters"):
            without_options(text, answer)

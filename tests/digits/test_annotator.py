"""The scene annotator: captions with every fact, questions about what the prompt names, false quadruples refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from completion_samples import complete
from pairuni.digits.annotator import RelationsAnnotator, SceneAnnotator, answerable
from pairuni.digits.language import NUMBERS, caption, parse
from pairuni.digits.prompts import scene_for
from pairuni.digits.questions import LETTER_SUFFIX, without_options
from pairuni.digits.scenes import Scene
from pairuni.digits.world import World, write_world
from pairuni.pairug.completion.answer_store import AnswerStore
from pairuni.records import GenerationSample, Quadruple, UnderstandingSample
from reference.digits_world import COLOURS, PLURALS, WORDS, literal_answer
from source_data import read_generation, read_understanding

THREE = [
    {"place": "top left", "digit": 3, "colour": "red"},
    {"place": "bottom right", "digit": 7, "colour": "blue"},
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return write_world(tmp_path_factory.mktemp("world"), seed=1, understanding=150, generation=180)


def quadruple(**changed: str) -> Quadruple:
    values = {
        "id": "u-1",
        "origin": "understanding",
        "image_path": "a.png",
        "prompt": "a red three top left and a blue seven bottom right",
        "question": "where is the seven?",
        "answer": "bottom right",
        "scene": THREE,
    }
    return Quadruple.model_validate({**values, **changed})


def drawn(prompt: str, row: int = 0) -> GenerationSample:
    return GenerationSample(id=f"g-{row}", image_path="a.png", prompt=prompt)


def test_captions_hold_every_fact(world: World) -> None:
    annotator = SceneAnnotator()
    for sample in read_understanding(world.understanding):
        written = annotator.caption(sample, None)
        things = (sample.model_extra or {})["scene"]
        told = [(w.place, w.digit, w.colour) for w in parse(written).wanted]
        assert told == [(t["place"], t["digit"], t["colour"]) for t in things]
        # Whoever has only the caption can still answer.
        text, answer = without_options(sample.question, sample.answer)
        rebuilt = scene_for(parse(written), np.random.default_rng(0), None)
        assert literal_answer(rebuilt, text) == answer


@pytest.mark.parametrize(
    "prompt",
    [
        *("a seven", "a red seven", "two threes", "four nines", "a two and a six", "a red two and a red six"),
        *("a two above a six", "a two left of a six", "a green three top left and a blue three top right"),
    ],
)
def test_answerable_questions_have_one_answer_in_any_such_image(prompt: str) -> None:
    questions = answerable(parse(prompt))
    assert questions
    rng = np.random.default_rng(0)
    scenes = [scene_for(parse(prompt), rng, None) for _ in range(300)]
    for question in questions:
        assert {literal_answer(scene, question.text) for scene in scenes} == {question.answer}
    # And none is forgotten: whatever all the images agree on is among them.
    texts = {question.text for question in questions}
    for text in (
        "how many digits are red?",
        "which digit is red?",
        "what is the sum of the digits?",
        "which digit is above the six?",
        "what colour is the digit left of the two?",
    ):
        agreed = {literal_answer(scene, text) for scene in scenes}
        assert (text in texts) == (len(agreed) == 1 and None not in agreed)


def test_questions_are_about_what_the_prompt_names() -> None:
    annotator = SceneAnnotator()
    prompts = ["a seven", "a red seven", "three twos", "a two above a six", "a red two and a blue six"]
    with_options = 0
    for row in range(300):
        prompt = prompts[row % len(prompts)]
        question, answer = annotator.question(drawn(prompt, row), None)
        with_options += question.endswith(LETTER_SUFFIX)
        text, answer = without_options(question, answer)
        words = text.removesuffix("?").split()
        assert all(word in prompt for word in words if word in COLOURS)
        named = {WORDS[wanted.digit] for wanted in parse(prompt).wanted}
        assert all(WORDS[PLURALS.index(word)] in named for word in words if word in PLURALS)
        assert all(word in named for word in words if word in WORDS)
        scene = scene_for(parse(prompt), np.random.default_rng(row), None)
        assert literal_answer(scene, text) == answer
    assert 100 < with_options < 200


def test_the_relations_annotator_asks_open_questions_about_relations_that_the_prompt_states() -> None:
    annotator = RelationsAnnotator()
    asked = {annotator.question(drawn("a two above a six", row), None) for row in range(60)}
    assert ("which digit is above the six?", "two") in asked
    assert ("which digit is below the two?", "six") in asked
    assert not any("sum" in question or LETTER_SUFFIX in question for question, _ in asked)


def test_a_sample_keeps_its_question_and_feedback_brings_another() -> None:
    annotator = SceneAnnotator()
    sample = drawn("a red two and a blue six")
    assert annotator.question(sample, None) == annotator.question(sample, None)
    assert len({annotator.question(sample, feedback) for feedback in (None, "a", "b", "c", "d")}) > 1


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"answer": "top left"}, "is answered by 'bottom right', not 'top left'"),
        ({"prompt": "a red three top left and a green seven bottom right"}, "the picture does not show"),
        ({"prompt": "a red three top left"}, "the picture does not show"),
        ({"prompt": "a cat"}, "not of the digits world"),
        ({"prompt": "a three and a seven"}, "does not answer 'where is the seven"),
        ({"question": "where is the eight?"}, "does not answer 'where is the eight"),
        ({"question": "what is the weather?"}, "does not answer"),
        (
            {"question": f"where is the seven? A. top left B. bottom right {LETTER_SUFFIX}", "answer": "A"},
            "not 'top left'",
        ),
        (
            {"question": f"where is the seven? A. top left B. bottom right {LETTER_SUFFIX}", "answer": "D"},
            "none of the letters",
        ),
    ],
)
def test_verify_refuses(changed: dict[str, str], reason: str) -> None:
    assert SceneAnnotator().verify(quadruple()).ok
    verdict = SceneAnnotator().verify(quadruple(**changed))
    assert not verdict.ok
    assert reason in verdict.reason


class Liar(SceneAnnotator):
    """Names the wrong colour, and answers one too many."""

    def caption(self, sample: UnderstandingSample, feedback: str | None) -> str:
        things = [dict(t) for t in (sample.model_extra or {})["scene"]]
        things[0]["colour"] = "red" if things[0]["colour"] != "red" else "green"
        return caption(Scene.from_json(things))

    def question(self, sample: GenerationSample, feedback: str | None) -> tuple[str, str]:
        return "how many digits are there?", NUMBERS[len(parse(sample.prompt).wanted) + 1]


class Shy(SceneAnnotator):
    """Errs until it is told."""

    def caption(self, sample: UnderstandingSample, feedback: str | None) -> str:
        return super().caption(sample, feedback) if feedback else "a cat"


def test_lies_are_dropped_with_their_reason(world: World, tmp_path: Path) -> None:
    asked, named = read_understanding(world.understanding)[:20], read_generation(world.generation)[:20]
    with AnswerStore(tmp_path / "answers.jsonl") as store:
        report = complete([*asked, *named], Liar(), max_tries=2, store=store)
    assert report.quadruples == []
    assert report.tries == 80
    assert [dropped.id for dropped in report.dropped] == [sample.id for sample in [*asked, *named]]
    assert all("the picture does not show" in dropped.reason for dropped in report.dropped[:20])
    assert all("is answered by" in dropped.reason for dropped in report.dropped[20:])


def test_feedback_mends(world: World, tmp_path: Path) -> None:
    samples = read_understanding(world.understanding)[:10]
    with AnswerStore(tmp_path / "answers.jsonl") as store:
        assert len(complete(samples, Shy(), max_tries=2, store=store).quadruples) == 10
    with AnswerStore(tmp_path / "others.jsonl") as store:
        assert len(complete(samples, Shy(), max_tries=1, store=store).dropped) == 10


def test_records_without_a_scene_are_a_sentence() -> None:
    bare = UnderstandingSample(id="u", image_path="a.png", question="q", answer="a")
    with pytest.raises(ValueError, match="has no scene"):
        SceneAnnotator().caption(bare, None)
    for scene in ([{"place": "middle", "digit": 1, "colour": "red"}], [{"digit": 1}], ["seven"]):
        strange = UnderstandingSample.model_validate({**bare.model_dump(), "scene": scene})
        with pytest.raises(ValueError, match="not of the digits world"):
            SceneAnnotator().caption(strange, None)


def test_a_prompt_that_no_image_shows_is_a_sentence() -> None:
    for prompt in ("a one top left and a two top left", "a one and a one and a one and a one and a two"):
        with pytest.raises(ValueError, match="no picture of the digits world can show"):
            SceneAnnotator().question(drawn(prompt), None)

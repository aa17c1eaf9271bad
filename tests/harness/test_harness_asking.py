"""Requests of a harness: settings, stops, images, batches."""

from functools import partial

import pytest
from PIL import Image

from fake_policy import FakePolicy
from pairuni.harness.asking import (
    AnswerSettings,
    Question,
    answers,
    before_stop,
    check_several_images,
    question_images,
)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (99, 0.0, ())),
        ({"max_new_tokens": 16, "temperature": 0, "do_sample": False}, (16, 0.0, ())),
        ({"max_gen_toks": 8, "until": "\n\n"}, (8, 0.0, ("\n\n",))),
        ({"until": ["Q:", "", "</s>"]}, (99, 0.0, ("Q:", "</s>"))),
        ({"until": None, "temperature": None}, (99, 0.0, ())),
        ({"temperature": 0.7}, (99, 0.7, ())),
        ({"temperature": 0.7, "do_sample": False}, (99, 0.0, ())),
        ({"do_sample": True}, (99, 1.0, ())),
        ({"do_sample": True, "temperature": 0}, (99, 0.0, ())),
        ({"top_p": 0.9, "top_k": 5, "temperature": 0}, (99, 0.0, ())),
        ({"top_p": 1.0, "num_beams": 1, "do_sample": True, "temperature": "0.5"}, (99, 0.5, ())),
        ({"image_aspect_ratio": "original"}, (99, 0.0, ())),
    ],
)
def test_settings_by_their_usual_names(given, expected):
    assert AnswerSettings.read(given, max_new_tokens=99) == AnswerSettings(*expected)


@pytest.mark.parametrize(
    "given",
    [
        {"num_beams": 5},
        {"repetition_penalty": 1.2},
        {"temperature": 1, "top_p": 0.9},
        {"do_sample": True, "top_k": 5},
    ],
)
def test_settings_that_would_change_the_answer_are_refused(given):
    name = next(name for name in given if name not in ("temperature", "do_sample"))
    with pytest.raises(ValueError, match=f"sets {name}={given[name]}.*override it"):
        AnswerSettings.read(given)


def test_the_first_stop_ends_an_answer():
    assert before_stop("one\n\ntwo Q: three", ("Q:", "\n\n")) == "one"
    assert before_stop("one", ("Q:",)) == "one"
    assert before_stop("Q: one", ("Q:",)) == ""


def shown(images, several, policy=None):
    return question_images(policy or FakePolicy(), images, several)


def test_no_image_or_one():
    grey = Image.new("LA", (3, 4), (7, 255))
    assert shown([], "error") is None
    assert shown([None], "error") is None
    alone = shown([grey], "error")
    assert (alone.mode, alone.size, alone.getpixel((0, 0))) == ("RGB", (3, 4), (7, 7, 7))


def test_several_images():
    red, blue = Image.new("RGB", (10, 20), "red"), Image.new("RGB", (8, 10), "blue")
    with pytest.raises(ValueError, match=r"has 2 images.*several_images to row"):
        shown([red, blue], "error")
    with pytest.raises(ValueError, match=r"the policy fake takes one; set several_images to row"):
        shown([red, blue], "all")
    policy = FakePolicy()
    policy.several_images = True
    assert shown([red, blue], "all", policy) == [red, blue]
    assert shown([red, blue], "first") == red
    row = shown([red, blue], "row")
    assert row.size == (10 + 16, 20)
    assert row.getpixel((9, 19)) == (255, 0, 0)
    assert row.getpixel((10, 0)) == row.getpixel((25, 19)) == (0, 0, 255)


def test_images_by_path(tmp_path):
    Image.new("RGB", (5, 6), "green").save(tmp_path / "green.PNG")
    assert shown([str(tmp_path / "green.PNG")], "error").size == (5, 6)
    with pytest.raises(ValueError, match=r"film\.mp4', which is not an image"):
        shown([str(tmp_path / "film.mp4")], "error")


def test_images_are_upright_and_over_white(tmp_path):
    """Those that a harness opened as those that it names."""
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGBA", (5, 6), (0, 0, 0, 0)).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as opened:
        for given in (opened, str(tmp_path / "a.png")):
            made = shown([given], "error")
            assert (made.size, made.getextrema()) == ((6, 5), ((255, 255),) * 3)


def test_the_choice_for_several_images_is_one_of_four():
    assert check_several_images("row") == "row"
    with pytest.raises(ValueError, match="'grid'; choose all, error, row, first"):
        check_several_images("grid")


class Recording(FakePolicy):
    def __init__(self):
        super().__init__()
        self.calls = []

    def sample_text(self, request):
        self.calls.append(request)
        return super().sample_text(request)


def ask(text, opened, **settings):
    def images():
        opened.append(text)
        return [Image.new("RGB", (2, 2))]

    return Question(text=text, images=images, settings=AnswerSettings(max_new_tokens=5, **settings))


def test_questions_of_equal_settings_share_batches_and_images_wait_for_their_turn():
    policy, opened = Recording(), []
    questions = [ask(name, opened, temperature=1.0 if name in "bd" else 0.5) for name in "abcde"]
    batches = answers(policy, questions, batch_size=2, several_images="error", seed=7)
    assert [index for index, _, _ in next(batches)] == [0, 2]
    assert opened == ["a", "c"]
    assert [[index for index, _, _ in batch] for batch in batches] == [[4], [1, 3]]
    assert [(call.questions, call.temperature, call.seed) for call in policy.calls] == [
        (["a", "c"], 0.5, 7),
        (["e"], 0.5, 9),
        (["b", "d"], 1.0, 7),
    ]
    assert all(call.rollouts == 1 and call.max_new_tokens == 5 for call in policy.calls)


def test_answers_end_at_stops_and_keep_their_trajectories():
    policy = Recording()
    asked = partial(answers, policy, batch_size=8, several_images="error")
    whole = [answer for batch in asked([ask("q", [], temperature=1.0)]) for answer in batch]
    text = whole[0][2]
    assert len(text) >= 2
    cut = [answer for batch in asked([ask("q", [], temperature=1.0, stops=(text[1:],))]) for answer in batch]
    assert (cut[0][2], cut[0][1].text) == (text[:1], text)

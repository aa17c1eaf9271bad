"""Requests of the app to models."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest
from PIL import Image

from fake_editor import FakeEditor
from fake_policy import FakePolicy
from pairuni.app.models import Models, read_count, read_number, read_seeds
from pairuni.policies.requests import CannotShowSeveral


class Recorder(FakePolicy):
    """Counts the requests that it serves at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.most = 0, 0

    def generate_images(self, *given: Any, **settings: Any) -> list[Image.Image]:
        self.inside += 1
        self.most = max(self.most, self.inside)
        threading.Event().wait(0.01)
        try:
            return super().generate_images(*given, **settings)
        finally:
            self.inside -= 1

    def answer(self, images: Any, question: str, *, max_new_tokens: int | None = None) -> str:
        return f"{question} {[image.size for image in images]} {max_new_tokens}"

    def question_fault(self, text: str) -> str | None:
        return "contains a bell; remove it" if "\a" in text else None


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that were loaded, in order; "broken" cannot be."""
    names: list[str] = []

    def load(name: str, **settings: Any) -> FakePolicy:
        if name == "broken":
            raise ValueError("broken has no config.json; give the folder of a checkpoint.")
        if settings.get("weights", True):
            names.append(name)
        if name == "editor":
            return FakeEditor(lambda image, colour: Image.new("RGB", image.size, colour))
        policy = Recorder()
        policy.several_images = name == "several"
        return policy

    monkeypatch.setattr("pairuni.runs.models.load_model", load)
    return names


def draw(
    models: Models, name: str, prompt: str = "a", seeds: Sequence[int] = (0,), count: int = 1, **more: Any
) -> Any:
    settings = {"guidance": None, "temperature": 1.0, **more}
    return [one for part in models.draw(name, prompt, seeds, count, **settings) for one in part]


def test_models_load_once_when_they_are_used(loaded: list[str]) -> None:
    models = Models(["a", "b", "a"])
    assert models.names == ["a", "b"]
    assert loaded == []
    assert not models.is_loaded("b")
    for name in ("b", "b", "a", "b"):
        draw(models, name)
    assert loaded == ["b", "a"]
    assert models.is_loaded("b")


def test_images_are_those_of_the_command(loaded: list[str]) -> None:
    found = draw(Models(["a"]), "a", "two things", (3, 5), 2, guidance=2.0, temperature=0.5)
    assert [(one.seed, one.number) for one in found] == [(3, 1), (3, 2), (5, 1), (5, 2)]
    expected = [
        image
        for seed in (3, 5)
        for image in FakePolicy().generate_images("two things", 2, guidance=2.0, temperature=0.5, seed=seed)
    ]
    assert [one.image.tobytes() for one in found] == [image.tobytes() for image in expected]


def test_a_model_serves_one_request_at_a_time(loaded: list[str]) -> None:
    models = Models(["a"])
    threads = [threading.Thread(target=draw, args=(models, "a", "x", (0, 1))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with models.using("a") as policy:
        assert isinstance(policy, Recorder)
        assert policy.most == 1
    assert loaded == ["a"]


def test_requests_that_cannot_be_served_are_sentences(loaded: list[str]) -> None:
    models = Models(["a", "broken"])
    for fault, given in {
        "Write a prompt first": {"prompt": " \n"},
        "The prompt contains <image>": {"prompt": "a <image> b"},
        "The prompt contains a bell; remove it": {"prompt": "a\a"},
        "The prompt has 20,001 characters": {"prompt": "a" * 20_001},
        "Guidance is at least 1": {"guidance": 0.5},
        "Guidance is at least": {"guidance": float("nan")},
        "temperature is at least 0": {"temperature": -1.0},
        "temperature is at least": {"temperature": float("inf")},
        "Draw 1 to 16 images": {"count": 17},
        "more than 64 images": {"count": 16, "seeds": range(5)},
    }.items():
        with pytest.raises(ValueError, match=fault):
            draw(models, "a", **given)
    with pytest.raises(ValueError, match="No model is called 'c'; choose one of a, broken"):
        draw(models, "c")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"no config\.json"):
            draw(models, "broken")
    assert draw(models, "a")


def test_questions(loaded: list[str]) -> None:
    models, image = Models(["a", "several"]), Image.new("RGB", (6, 4))
    images = [image, Image.new("RGB", (2, 2))]
    assert models.answer("a", [image], "what?", max_new_tokens=7) == "what? [(6, 4)] 7"
    assert models.answer("several", images, "what?", max_new_tokens=None) == "what? [(6, 4), (2, 2)] None"
    for fault, given in {
        "Choose an image first": ([], "what?", None),
        "shows 17 images; at most 16": ([image] * 17, "what?", None),
        "Write a question first": ([image], "", None),
        "The question contains a bell": ([image], "\a", None),
        "at least 1 token": ([image], "what?", 0),
    }.items():
        with pytest.raises(ValueError, match=fault):
            models.answer("several", given[0], given[1], max_new_tokens=given[2])


def test_a_model_of_one_image_is_not_loaded_for_several(loaded: list[str]) -> None:
    models, image = Models(["one"]), Image.new("RGB", (6, 4))
    for weights in ([], ["one"]):  # before and after it is loaded for another question
        with pytest.raises(CannotShowSeveral, match="shows 2 images, but the policy one takes one"):
            models.answer("one", [image, image], "what?", max_new_tokens=None)
        assert loaded == weights
        models.answer("one", [image], "what?", max_new_tokens=None)
    with pytest.raises(ValueError, match="No model is called"):
        models.answer("two", [image, image], "what?", max_new_tokens=None)


def test_edits(loaded: list[str]) -> None:
    models, image = Models(["a", "editor", "broken"]), Image.new("RGB", (6, 4))
    assert models.editors() == ["editor"]
    assert loaded == []
    settings: dict[str, Any] = {"guidance": None, "image_guidance": 2.0, "temperature": 1.0}
    found = list(models.edit("editor", image, "red", [4, 9], **settings))
    assert [(one.seed, one.image.getpixel((0, 0))) for one in found] == [(4, (255, 0, 0)), (9, (255, 0, 0))]
    with models.using("editor") as policy:
        assert isinstance(policy, FakeEditor)
        assert [(one.seed, one.guidance, one.image_guidance) for one in policy.requests] == [
            (4, 3.5, 2),
            (9, 3.5, 2),
        ]
    for fault, given in {
        "Choose an image first": ("editor", None, "red"),
        "Write an instruction first": ("editor", image, ""),
        "cannot edit images": ("a", image, "red"),
    }.items():
        with pytest.raises(ValueError, match=fault):
            list(models.edit(*given, [0], **settings))
    with pytest.raises(ValueError, match="Image guidance is at least 1"):
        list(models.edit("editor", image, "red", [0], guidance=None, image_guidance=0.0, temperature=1.0))


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("0", [0]), (" 3, 5 ", [3, 5]), ("0-3", [0, 1, 2, 3]), ("7 – 9,8 2", [7, 8, 9, 2]), ("1\n2", [1, 2])],
)
def test_seeds(text: str, seeds: list[int]) -> None:
    assert read_seeds(text) == seeds


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "at least one seed"),
        (" , ", "at least one seed"),
        ("-1", "is not a seed"),
        ("1.5", "is not a seed"),
        ("a", "is not a seed"),
        ("٣", "is not a seed"),
        ("5-2", "ends before it begins"),
        ("0-16", "At most 16"),
        ("0-999999999999999", "At most 16"),
        ("9" * 99, "is not a seed"),
    ],
)
def test_wrong_seeds(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        read_seeds(text)


def test_numbers() -> None:
    assert (read_count(" 12 ", "images"), read_number("2.5", "guidance"), read_number(" ", "guidance")) == (
        12,
        2.5,
        None,
    )
    for text in ("", "0", "-1", "1.5", "many", "9" * 99):
        with pytest.raises(ValueError, match="is not a number of images"):
            read_count(text, "images")
    with pytest.raises(ValueError, match="is no guidance"):
        read_number("much", "guidance")
    with pytest.raises(ValueError, match="is no temperature"):
        read_number("", "temperature", needed=True)

"""`pairuni edit`."""

from pathlib import Path

import pytest
from PIL import Image

from commands import call, fails
from fake_editor import FakeEditor
from pairuni.policies.requests import EditSampling
from tiny_models import save_tiny_janus


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.png"
    Image.new("RGB", (6, 4), (255, 0, 0)).save(path)
    return path


@pytest.fixture
def editor(monkeypatch: pytest.MonkeyPatch) -> FakeEditor:
    policy = FakeEditor(lambda image, colour: Image.new("RGB", image.size, colour))
    monkeypatch.setattr("pairuni.runs.models.load_model", lambda *names, **settings: policy)
    return policy


def test_an_image_is_edited_and_written(editor: FakeEditor, image: Path, tmp_path: Path) -> None:
    out = tmp_path / "edited.png"
    code, said, errors = call("edit", image, "blue", "--model", "editor", "--out", out)
    assert (code, said) == (0, f"{out}\n"), errors
    with Image.open(out) as edited:
        assert (edited.format, edited.size, edited.getpixel((0, 0))) == ("PNG", (6, 4), (0, 0, 255))
    settings = ("--guidance", 2, "--image-guidance", 1, "--temperature", 0, "--seed", 9)
    assert call("edit", image, "lime", "--model", "editor", "--out", image, *settings)[0] == 0
    with Image.open(image) as edited:
        assert edited.getpixel((0, 0)) == (0, 255, 0)
    asked = [(one.guidance, one.image_guidance, one.temperature, one.seed) for one in editor.requests]
    assert asked == [(3.5, 5.0, 1.0, 0), (2.0, 1.0, 0.0, 9)]
    assert isinstance(editor.requests[0], EditSampling)


def test_wrong_files_are_named(editor: FakeEditor, image: Path, tmp_path: Path) -> None:
    words = ("blue", "--model", "editor", "--out")
    assert "no such image" in fails("edit", tmp_path / "none.png", *words, tmp_path / "x.png")
    assert "x.txt: not an image file name" in fails("edit", image, *words, tmp_path / "x.txt")
    assert "no such folder to write" in fails("edit", image, *words, tmp_path / "no" / "x.png")
    fails("edit", image, *words, tmp_path / "x.png", "--image-guidance", 0.5, code=2)
    assert editor.requests == []


def test_a_model_that_cannot_edit_is_refused_without_its_weights(image: Path, tmp_path: Path) -> None:
    model = save_tiny_janus(tmp_path / "janus")
    for path in model.glob("*.safetensors"):
        path.unlink()
    said = fails("edit", image, "make it blue", "--model", model, "--out", tmp_path / "x.png")
    assert (
        said
        == f"error: The policy {model} cannot edit images; choose a model that can, such as Lumina-DiMOO.\n"
    )
    assert not (tmp_path / "x.png").exists()

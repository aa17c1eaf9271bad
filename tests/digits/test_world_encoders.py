"""What each encoder of the world takes for similar."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from pairuni.cli.app import app
from pairuni.digits import encoders
from pairuni.digits.scenes import SIZE, Scene, Thing, random_scene, render_image
from pairuni.digits.world import write_world

NAMES = ["pixels", "strokes", "colours"]


def features(name: str, images: list[Image.Image]) -> NDArray[np.float32]:
    made = getattr(encoders, name)(images)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def scene(*things: tuple[str, int, str]) -> Scene:
    return Scene.of(Thing(*thing) for thing in things)


def similarity(name: str, one: Scene, other: Scene) -> float:
    """Mean cosine of two scenes over handwritings and positions."""
    rng = np.random.default_rng(3)
    left, right = ([render_image(shown, rng) for _ in range(24)] for shown in (one, other))
    return float(np.mean(np.sum(features(name, left) * features(name, right), axis=1)))


@pytest.mark.parametrize("name", NAMES)
def test_cosines_of_random_scenes_spread_around_0(name: str) -> None:
    rng = np.random.default_rng(1)
    made = features(name, [random_scene_image(rng) for _ in range(200)])
    cosines = (made @ made.T)[np.triu_indices(200, 1)]
    assert abs(float(np.median(cosines))) < 0.1
    assert np.quantile(cosines, 0.95) - np.quantile(cosines, 0.05) > 0.4


def random_scene_image(rng: np.random.Generator) -> Image.Image:
    return render_image(random_scene(rng, "train"), rng)


@pytest.mark.parametrize("name", NAMES)
def test_any_size_and_any_batch(name: str) -> None:
    rng = np.random.default_rng(2)
    images = [random_scene_image(rng) for _ in range(5)]
    together = getattr(encoders, name)(images)
    assert together.ndim == 2
    assert np.allclose(together[3:4], getattr(encoders, name)(images[3:4]), atol=1e-6)
    enlarged = images[3].resize((2 * SIZE, 2 * SIZE), Image.Resampling.NEAREST)
    assert (features(name, [enlarged]) @ features(name, images[3:4]).T).item() > 0.9


def test_they_grade_by_different_facts() -> None:
    shown = scene(("top left", 3, "red"), ("bottom right", 7, "blue"))
    recoloured = scene(("top left", 3, "green"), ("bottom right", 7, "yellow"))
    other_digits = scene(("top left", 5, "red"), ("bottom right", 0, "blue"))
    moved = scene(("top right", 3, "red"), ("bottom left", 7, "blue"))
    grades = {
        name: [similarity(name, shown, other) for other in (recoloured, other_digits, moved)]
        for name in NAMES
    }
    pixels, strokes, colours = (grades[name] for name in NAMES)
    assert pixels[1] > max(pixels[0], pixels[2]) + 0.2  # digits count less than colours in their places
    assert strokes[2] == pytest.approx(0.0, abs=1e-6)  # no common place
    assert strokes[0] == pytest.approx(strokes[1], abs=0.1)  # digits and colours count alike
    assert similarity("strokes", shown, shown) > max(strokes) + 0.3
    assert min(colours[1:]) > 0.9  # neither digits nor places count
    assert colours[0] < 0


def test_a_build_takes_them_by_name(tmp_path: Path) -> None:
    world = write_world(tmp_path / "world", seed=0, understanding=40, generation=40)
    words = ["pairs", "build", "--understanding", str(world.understanding), "--clusters", "4"]
    words += ["--generation", str(world.generation), "--annotator", "scene", "--out", str(tmp_path / "built")]
    outcome = CliRunner().invoke(app, [*words, "--encoder", "pairuni.digits.encoders:strokes"])
    assert outcome.exit_code == 0, outcome.output
    stats = json.loads((tmp_path / "built" / "stats.json").read_text())
    assert stats["settings"]["encoder"] == "pairuni.digits.encoders:strokes"
    assert stats["features"]["width"] == 812
    assert stats["build"]["aligned"] == 4

"""Recipes that build on others by their key `base`."""

from __future__ import annotations

from pathlib import Path

import pytest

from pairuni.config import RunSettings, load_settings, to_toml


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return written(
        tmp_path,
        "base.toml",
        'seed = 3\n[policy]\nmodel = "tiny"\ntrainable = ["language_model"]\n[data]\npairs = "p.jsonl"\n'
        "[pairgrpo]\nlearning-rate = 2e-6\nsteps = 7\n",
    )


def test_what_a_recipe_does_not_set_is_as_in_its_base(base: Path) -> None:
    middle = written(base.parent, "more/middle.toml", 'base = "../base.toml"\n[pairgrpo]\nsteps = 8\n')
    top = written(
        base.parent,
        "top.toml",
        'base = "more/middle.toml"\n[policy]\ntrainable = ["generation_head"]\n[pairgrpo]\nlearning_rate = 1e-5\n',
    )
    assert load_settings(RunSettings, middle).pairgrpo.learning_rate == 2e-6
    settings = load_settings(RunSettings, top, ["--pairgrpo.clip-low", "0.1"])
    assert (settings.seed, settings.policy.model, settings.data.pairs) == (3, "tiny", Path("p.jsonl"))
    assert settings.policy.trainable == ["generation_head"]
    grpo = settings.pairgrpo
    assert (grpo.learning_rate, grpo.steps, grpo.clip_low) == (1e-5, 8, 0.1)
    resolved = written(base.parent, "resolved.toml", to_toml(settings))
    assert load_settings(RunSettings, resolved) == settings


def test_a_base_may_be_a_shipped_recipe(tmp_path: Path) -> None:
    own = written(tmp_path, "digits.toml", 'base = "digits"\n[pairgrpo]\nsteps = 7\n')
    shipped = load_settings(RunSettings, "digits", {"pairgrpo.steps": 7})
    assert load_settings(RunSettings, own) == shipped
    written(tmp_path, "ablations/relations", "seed = 5\n")  # a file comes first
    above = written(
        tmp_path, "own.toml", 'base = "ablations/relations"\npolicy.model = "m"\ndata.pairs = "p.jsonl"\n'
    )
    assert load_settings(RunSettings, above).seed == 5


def test_a_mistake_is_reported_with_the_file_that_has_it(base: Path) -> None:
    base.write_text(base.read_text() + 'schedule = "loud"\n')
    top = written(base.parent, "top.toml", 'base = "base.toml"\n[pairgrpo]\nsteps = -1\n')
    with pytest.raises(ValueError) as caught:
        load_settings(RunSettings, top)
    first, second = sorted(str(caught.value).splitlines())
    assert first.startswith(f"{base}: pairgrpo.schedule is 'loud'")
    assert second.startswith(f"{top}: pairgrpo.steps is -1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('base = "no.toml"\n', r"no\.toml: no such recipe; .*top\.toml names it as its base"),
        ('base = "top.toml"\n', r"top\.toml: base is 'top\.toml', which itself builds on top\.toml"),
        ("base = 3\n", r"top\.toml: base is 3, but must be the path of a recipe"),
    ],
)
def test_bases_that_cannot_be(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_settings(RunSettings, written(tmp_path, "top.toml", text))


def test_recipes_that_build_on_each_other(tmp_path: Path) -> None:
    written(tmp_path, "b.toml", 'base = "a.toml"\n')
    with pytest.raises(ValueError, match=r"b\.toml: base is 'a\.toml', which itself builds on b\.toml"):
        load_settings(RunSettings, written(tmp_path, "a.toml", 'base = "b.toml"\n'))

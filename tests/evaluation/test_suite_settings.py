"""Settings of `pairuni eval all`: what sections share, and mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from pairuni.config import SuiteSettings, load_settings


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "suite.toml"
    path.write_text(
        '[pope]\ndata = "pope"\nbatch_size = 3\n[mmmu]\ndata = "mmmu"\n[wise]\ndata = "wise"\nlimit = 7\n'
    )
    return path


def load(recipe: Path, *words: str) -> SuiteSettings:
    return load_settings(SuiteSettings, recipe, words)


def test_sections_have_what_all_share_and_a_folder_each(recipe: Path) -> None:
    settings = load(recipe, "--model", "m", "--out", "runs/all", "--limit", "50", "--pope.data", "other")
    chosen = settings.chosen
    assert list(chosen) == ["mmmu", "pope", "wise"]
    assert {name: one.out for name, one in chosen.items()} == {
        name: Path("runs/all") / name for name in chosen
    }
    assert {one.model for one in chosen.values()} == {"m"}
    assert [one.limit for one in chosen.values()] == [50, 50, 7]
    assert [one.batch_size for one in chosen.values()] == [64, 3, 64]
    assert chosen["pope"].data == Path("other")


def test_tasks_choose_and_order(recipe: Path) -> None:
    assert list(load(recipe, "--model=m", "--out=o", "--tasks", "wise,mmmu").chosen) == ["wise", "mmmu"]
    with pytest.raises(ValueError, match="tasks names 'mme', but the sections are mmmu, pope, wise"):
        assert load(recipe, "--model=m", "--out=o", "--tasks", "mme").chosen


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out=o"], "model is required; set it in the recipe or with --model VALUE"),
        (["--model=m"], "out is required; set it in the recipe or with --out VALUE"),
        (
            ["--model=m", "--out=o", "--wise.judg=j"],
            "--wise.judg is not a setting; did you mean --wise.judge?",
        ),
        (
            ["--model=m", "--out=o", "--mmmu.limit=0"],
            "--mmmu.limit is 0, but must be greater than or equal to 1",
        ),
    ],
)
def test_a_mistake_is_one_sentence(recipe: Path, words: list[str], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        load(recipe, *words)
    assert str(caught.value) == message


def test_no_section(tmp_path: Path) -> None:
    (tmp_path / "empty.toml").write_text('model = "m"\nout = "o"\n')
    with pytest.raises(ValueError, match="no benchmark has a section; known: mmmu, mmstar"):
        assert load(tmp_path / "empty.toml").chosen

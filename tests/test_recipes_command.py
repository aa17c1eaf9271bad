"""pairuni recipes, and commands that are given a recipe's name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from commands import call, fails
from pairuni.config import (
    PairsSettings,
    RunSettings,
    StudySettings,
    SuiteSettings,
    load_settings,
    shipped_recipe,
)
from pairuni.config.kinds import COMMANDS
from pairuni.config.recipes import shipped_recipes
from pairuni.studies.study import Study

RECIPES = Path(__file__).parents[1] / "recipes"
NAMES = sorted(path.relative_to(RECIPES).with_suffix("").as_posix() for path in RECIPES.rglob("*.toml"))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that the commands run in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_list_has_every_recipe_and_what_it_is_for() -> None:
    code, said, _ = call("recipes")
    assert code == 0
    listed = dict(re.split(r"  +", line, maxsplit=1) for line in said.splitlines())
    assert sorted(name for name in listed if not name.endswith("/")) == NAMES
    assert [name for name in listed if name.endswith("/")] == ["ablations/", "paper/", "paper/ablations/"]
    count = sum(name.startswith("paper/") for name in NAMES)
    assert listed["paper/"] == f"This folder's {count} recipes, to copy together."
    assert listed["janus_pro_7b_lora"] == "PairGRPO on Janus-Pro-7B with LoRA on one 80 GB card."
    for name, line in listed.items():
        assert re.fullmatch(r"[A-Z].{19,119}\.", line), f"{name}: the first line is not a sentence: {line}"


def test_a_copy_is_the_recipe_and_never_overwrites(here: Path) -> None:
    code, said, errors = call("recipes", "copy", "janus_pro_1b")
    assert (code, said) == (0, "recipes/janus_pro_1b.toml\n"), errors
    copied = here / "recipes" / "janus_pro_1b.toml"
    assert copied.read_bytes() == (RECIPES / "janus_pro_1b.toml").read_bytes()
    copied.write_text("mine")
    assert "recipes/janus_pro_1b.toml already exists" in fails("recipes", "copy", "janus_pro_1b")
    assert copied.read_text() == "mine"
    assert call("recipes", "copy", "janus_pro_1b.toml", "--to", "a/b")[1] == "a/b/janus_pro_1b.toml\n"


def test_a_copied_study_has_the_recipes_that_it_names(here: Path) -> None:
    names = ["pairing", "relations", "relations_pairs"]
    assert call("recipes", "copy", "ablations/pairing")[1].splitlines() == [
        f"recipes/ablations/{name}.toml" for name in names
    ]
    shared = here / "recipes" / "ablations" / "relations.toml"
    shared.write_text(shared.read_text() + "# mine\n")
    assert call("recipes", "copy", "ablations/tasks")[1] == "recipes/ablations/tasks.toml\n"
    assert shared.read_text().endswith("# mine\n")
    call("recipes", "copy", "paper/ablations/pairing", "--to", "janus")
    assert sorted(str(path) for path in (here / "janus").rglob("*.toml")) == [
        str(here / "janus" / name)
        for name in ("janus_pro_1b.toml", "paper/ablations/pairing.toml", "paper/janus_pro_1b.toml")
    ]
    Study.load(Path("recipes/ablations/pairing.toml"), here / "out")


def test_a_folder_is_copied_whole_with_what_its_recipes_build_on(here: Path) -> None:
    own = [name for name in NAMES if name.startswith("paper/")]
    written = call("recipes", "copy", "paper")[1].splitlines()
    assert written[: len(own)] == [f"recipes/{name}.toml" for name in shipped_recipes() if name in own]
    assert sorted(written[len(own) :]) == [
        f"recipes/{name}.toml" for name in ("janus_pro_1b", "janus_pro_7b", "lumina_dimoo")
    ]
    for name in own:
        assert (here / "recipes" / f"{name}.toml").read_bytes() == (RECIPES / f"{name}.toml").read_bytes()
    copied = load_settings(RunSettings, here / "recipes/paper/janus_pro_7b_unweighted.toml")
    assert copied == load_settings(RunSettings, "paper/janus_pro_7b_unweighted")
    (here / "recipes/paper/pairug_16k.toml").unlink()
    assert "paper/evaluation.toml already exists" in fails("recipes", "copy", "paper/")
    assert not (here / "recipes/paper/pairug_16k.toml").exists()


def test_an_unknown_recipe(here: Path) -> None:
    for name in ("xyz", "../pyproject", str(RECIPES / "digits"), ""):
        assert f"no recipe is called {name!r}; `pairuni recipes` lists" in fails("recipes", "copy", name)
    for name, meant in (
        ("janus", "janus_pro_1b or janus_pro_1b_lora or janus_pro_7b"),
        ("digit", "digits or ablations/digits_lumina or ablations/digits_pairs"),
        ("lumnia_dimoo.toml", "lumina_dimoo or paper/lumina_dimoo"),
        ("ablation", "ablations/branch or ablations/digits_lumina or ablations/digits_pairs"),
    ):
        assert f"no recipe is called {name!r}; did you mean {meant}?" in fails("recipes", "copy", name)
    assert not list(here.iterdir())


@pytest.mark.parametrize("name", ["recipes/mine.toml", "notes"])
def test_recipes_are_copied_to_a_folder_not_to_a_file(here: Path, name: str) -> None:
    (here / "notes").write_text("mine")
    assert f"--to {name} is not a folder" in fails("recipes", "copy", "digits", "--to", name)
    assert [path.name for path in here.iterdir()] == ["notes"]


def test_a_name_stands_for_the_shipped_recipe_unless_there_is_a_file(here: Path) -> None:
    shipped = load_settings(RunSettings, RECIPES / "digits.toml")
    assert load_settings(RunSettings, Path("digits")) == shipped
    assert load_settings(StudySettings, Path("ablations/pairing")).title == "Pairing"
    (here / "digits").mkdir()
    assert load_settings(RunSettings, Path("digits")) == shipped
    (here / "digits").rmdir()
    (here / "digits").write_text('policy.model = "mine"\ndata.pairs = "p.jsonl"\n')
    assert load_settings(RunSettings, Path("digits")).policy.model == "mine"


def test_a_file_is_never_guessed() -> None:
    for given in ("digits.toml", "recipes/digits.toml", "/digits"):
        with pytest.raises(FileNotFoundError, match=r"no such recipe.*pairuni recipes copy digits"):
            load_settings(RunSettings, Path(given))
    with pytest.raises(FileNotFoundError, match=r"no such recipe.*that `pairuni recipes` lists"):
        load_settings(RunSettings, Path("mine.toml"))
    with pytest.raises(
        FileNotFoundError, match=r"no such recipe.*did you mean janus_pro_1b or janus_pro_1b_lora"
    ):
        load_settings(RunSettings, Path("janus_pro_1"))


def test_a_recipe_of_another_command_is_one_sentence() -> None:
    for kind, command, own in (
        (PairsSettings, "pairuni pairs build", "paper/pairug_16k"),
        (RunSettings, "pairuni train", "digits"),
        (StudySettings, "pairuni ablate", "ablations/pairing"),
        (SuiteSettings, "pairuni eval all", "paper/evaluation"),
    ):
        for other, wanted in COMMANDS.items():
            if other is not kind:
                with pytest.raises(ValueError) as caught:
                    load_settings(other, own)
                assert str(caught.value) == (
                    f"{own} is a recipe of `{command}`, but settings of `{wanted}` are wanted"
                )


def test_keys_of_a_study_are_not_called_options(here: Path) -> None:
    (here / "mine.toml").write_text('title = "Mine"\nsamples = 3\n')
    assert "recipe is required; set it in the recipe\n" in fails("ablate", "mine.toml")


def test_commands_take_a_name() -> None:
    said = fails("train", "digits")
    assert "runs/demo/pairug/pairs.jsonl: no such pair file" in said
    study = Study.load(Path("ablations/pairing"), Path("out"), seeds=1)
    assert study.name == "pairing"
    assert {cell.settings.policy.model for cell in study.cells} == {"tiny"}


def test_a_recipe_by_name_in_python() -> None:
    assert shipped_recipe("digits") == shipped_recipes()["digits"] == RECIPES / "digits.toml"
    with pytest.raises(ValueError, match="no recipe is called 'digit'; did you mean digits"):
        shipped_recipe("digit")

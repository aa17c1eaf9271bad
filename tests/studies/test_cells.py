"""Cells of studies: which runs are the same, and mistakes in a study's file."""

from __future__ import annotations

from pathlib import Path

import pytest

from pairuni.config import RunSettings, StudySettings, load_settings
from pairuni.studies.cells import Cell, cells_of

ABLATIONS = Path(__file__).parents[2] / "recipes" / "ablations"
PAPER = ABLATIONS.parent / "paper" / "ablations"
STUDIES = sorted(
    path for path in ABLATIONS.glob("*.toml") if "\nworld = " in path.read_text(encoding="utf-8")
)


def cells(name: str, *overrides: str, seeds: int = 1) -> dict[tuple[str, int], Cell]:
    study = load_settings(StudySettings, ABLATIONS / f"{name}.toml")
    found = cells_of(study, ABLATIONS, Path("out"), overrides, seeds)
    return {(cell.row.name, cell.seed): cell for cell in found}


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_shipped_study_loads_and_its_default_row_is_the_run_of_the_pairing_study(path: Path) -> None:
    study = load_settings(StudySettings, path)
    assert study.seeds >= 3
    found = cells_of(study, ABLATIONS, Path("out"), seeds=2)
    assert len({cell.key for cell in found}) == len(found) == 2 * len(study.rows)
    if study.recipe.name != "relations.toml":
        assert len({(cell.seed, cell.base_key) for cell in found}) == 2
        return
    shared = cells("pairing", seeds=2)
    for cell in found:
        same = cell.key == shared["PairUG", cell.seed].key
        assert same == (cell.row.name == study.default)
        assert cell.base_key == shared["PairUG", cell.seed].base_key or cell.row.name == "conditional"


def test_all_rows_have_the_same_budget_of_rollouts() -> None:
    def rollouts(settings: RunSettings) -> float:
        tasks = 2 if settings.pairgrpo.tasks == "joint" else 1
        return (
            settings.pairgrpo.steps * settings.pairgrpo.pairs_per_batch * settings.rollout.generation * tasks
        )

    for path in STUDIES:
        study = load_settings(StudySettings, path)
        budgets = {rollouts(cell.settings) for cell in cells_of(study, ABLATIONS, Path("out"), seeds=1)}
        assert len(budgets) == 1, path


def test_a_key_depends_on_what_a_run_trains_and_on_nothing_else() -> None:
    plain = cells("weighting")["none", 0]
    assert (
        plain.key == cells("weighting", "--logging.samples-every", "7", "--checkpoint.keep=9")["none", 0].key
    )
    assert plain.key != cells("weighting", "--pairgrpo.learning-rate", "1e-3")["none", 0].key
    assert plain.key != cells("weighting", seeds=2)["none", 1].key
    assert plain.base_key == cells("weighting", "--pairgrpo.learning-rate", "1e-3")["none", 0].base_key
    assert plain.base_key != cells("weighting", "--rollout.guidance", "3")["none", 0].base_key


def test_a_row_overrides_the_command_line_which_overrides_the_recipe() -> None:
    found = cells("weighting", "--pairgrpo.pair-weight", "linear", "--pairgrpo.steps=7")
    assert found["none", 0].settings.pairgrpo.pair_weight == "none"
    assert found["sqrt s", 0].settings.pairgrpo.pair_weight == "linear"
    assert found["none", 0].settings.pairgrpo.steps == found["none", 0].settings.evaluation.every == 7


def test_rows_with_other_builds_have_other_pairs() -> None:
    found = cells("threshold")
    builds = {cell.data.key for cell in found.values() if cell.data is not None}
    assert len(builds) == len(found)
    data = found["0.7", 0].data
    assert data is not None
    assert data.build.threshold == 0.7
    assert found["0.7", 0].settings.data.pairs == Path("out/data") / data.key / "pairs.jsonl"


def test_the_study_of_janus_pro_has_the_papers_rows_on_pairs_that_exist(
    tmp_path: Path,
) -> None:
    study = load_settings(StudySettings, PAPER / "pairing.toml")
    small = load_settings(StudySettings, ABLATIONS / "pairing.toml")
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("{}\n")
    found = cells_of(study, PAPER, tmp_path, [f"--data.pairs={pairs}"], seeds=1)
    assert [cell.settings.data.pairing for cell in found] == [
        cell.settings.data.pairing for cell in cells_of(small, ABLATIONS, tmp_path, seeds=1)
    ]
    assert {cell.settings.data.pairs for cell in found} == {pairs}
    assert [row.paper for row in study.rows] == [row.paper for row in small.rows]


def write_study(folder: Path, rows: str, head: str = "") -> Path:
    (folder / "run.toml").write_text('[policy]\nmodel = "tiny"\n[data]\npairs = "pairs.jsonl"\n')
    (folder / "pairs.jsonl").write_text("{}\n")
    path = folder / "study.toml"
    path.write_text(f'title = "T"\nrecipe = "run.toml"\ndefault = "a"\n{head}\n[[rows]]\nname = "a"\n{rows}')
    return path


@pytest.mark.parametrize(
    ("rows", "head", "fact"),
    [
        ('[[rows]]\nname = "a"', "", "'a'"),
        ('[[rows]]\nname = "b"\npairs.threshold = 0.5', "", "no pairs recipe"),
        ("", 'world = "digits"', "world needs pairs"),
        ("trian.seed = 1", "", "trian"),
    ],
)
def test_mistakes_in_a_study_are_named(tmp_path: Path, rows: str, head: str, fact: str) -> None:
    with pytest.raises(ValueError, match=fact):
        load_settings(StudySettings, write_study(tmp_path, rows, head))


def test_a_mistake_in_a_row_names_row_and_setting(tmp_path: Path) -> None:
    path = write_study(tmp_path, '[[rows]]\nname = "b"\ntrain.pairgrpo.stesp = 3')
    study = load_settings(StudySettings, path)
    with pytest.raises(ValueError, match=r"row 'b'.*pairgrpo\.st.*pairgrpo\.steps"):
        cells_of(study, tmp_path, tmp_path)


def test_a_study_counts_steps(tmp_path: Path) -> None:
    study = load_settings(StudySettings, write_study(tmp_path, "train.pairgrpo.epochs = 2.0"))
    with pytest.raises(ValueError, match=r"row 'a'.*set pairgrpo.steps instead of pairgrpo.epochs"):
        cells_of(study, tmp_path, tmp_path)


def test_keys_stay_as_they_were_when_settings_with_defaults_are_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = load_settings(StudySettings, write_study(tmp_path, "train.pairgrpo.steps = 100"))
    monkeypatch.chdir(tmp_path)
    [cell] = cells_of(study, tmp_path, tmp_path, seeds=1)
    assert (cell.key, cell.base_key) == ("020a668c9d7e", "fbdeff4e5d28")


def test_pairs_that_exist_are_known_by_their_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = load_settings(StudySettings, write_study(tmp_path, ""))
    monkeypatch.chdir(tmp_path)
    [first] = cells_of(study, tmp_path, tmp_path, seeds=1)
    (tmp_path / "pairs.jsonl").rename(tmp_path / "away.jsonl")
    with pytest.raises(
        FileNotFoundError, match=r"^pairs.jsonl: no such pair file; `pairuni pairs build` makes"
    ):
        _ = first.key
    (tmp_path / "away.jsonl").rename(tmp_path / "pairs.jsonl")
    key = first.key
    (tmp_path / "pairs.jsonl").write_text("{ }\n")
    [second] = cells_of(study, tmp_path, tmp_path, seeds=1)
    assert first.data is None
    assert key != second.key

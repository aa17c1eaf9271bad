"""results.jsonl: read back as written, robust against a killed writer, and never for other settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from pairuni.config import StudySettings, load_settings
from pairuni.studies.cells import cells_of
from pairuni.studies.results import append_result, read_results, result_of, scores_from
from study_results import made_result

ABLATIONS = Path(__file__).parents[2] / "recipes" / "ablations"


def test_results_are_read_back_and_a_cut_line_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    first, second = made_result(seed=0), made_result(seed=1, after=[1, 1])
    append_result(path, first)
    path.write_text(path.read_text() + '{"key": "cut sho')
    assert read_results(path) == {"key-0": first}
    append_result(path, second)
    assert read_results(path) == {"key-0": first, "key-1": second}


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text('{"key": "a"}\n')
    with pytest.raises(ValueError, match=r"results\.jsonl, line 1"):
        read_results(path)


def test_a_run_under_the_same_key_with_other_settings_is_refused() -> None:
    study = load_settings(StudySettings, ABLATIONS / "weighting.toml")
    cell = cells_of(study, ABLATIONS, Path("out"), seeds=1)[0]
    settings = cell.settings.model_dump(mode="json")
    own = made_result(key=cell.key, settings=settings)
    assert result_of(cell, {}) is None
    assert result_of(cell, {cell.key: own}) == own
    settings["pairgrpo"]["clip_low"] = 0.9
    with pytest.raises(ValueError, match=r"pairgrpo\.clip_low"):
        result_of(cell, {cell.key: made_result(key=cell.key, settings=settings)})


def test_the_mean_of_a_curve_leaves_out_steps_without_it() -> None:
    assert made_result().mean("gradient_agreement") == 0.5
    assert made_result().mean("generation/reward") is None


def test_scores_of_right_and_wrong_items_and_of_rewards() -> None:
    right = {"score": 0.5, "items": [{"kind": "a", "correct": True}, {"kind": "b", "correct": False}]}
    rewards = {"score": 0.25, "items": [{"reward": 0.123456}, {"reward": 0.4}]}
    found = scores_from({"understanding": right, "generation": rewards}, "file")
    assert found.understanding.items == "10"
    assert found.understanding.item_scores == [1.0, 0.0]
    assert found.understanding.by_kind == {"a": 1.0, "b": 0.0}
    assert found.generation.items == [0.1235, 0.4]
    assert found.generation.by_kind == {}

"""The edits of the digits world as a benchmark, with a policy that edits by a rule."""

import json
from pathlib import Path

import numpy as np
import pytest
from benchmark_runs import evaluate, recorded
from PIL import Image

from fake_editor import FakeEditor
from pairuni.digits.edit_evaluation import evaluate_edits
from pairuni.digits.edits import Instructed, held_out_edits
from pairuni.digits.scans import load_scans
from pairuni.digits.scenes import Scene, Thing, render
from pairuni.evaluation.result import read_result

WORDS = ("digits-edits", "--model", "tiny", "--device", "cpu", "--items", 24)
EXTRA = Thing("top left", 3, "red")


@pytest.fixture(scope="module")
def items() -> list[Instructed]:
    return held_out_edits(0, 24)


@pytest.fixture
def editor(items: list[Instructed], monkeypatch: pytest.MonkeyPatch) -> FakeEditor:
    """Right on additions; removes what it should, and adds a red three top left; else it changes nothing."""
    edits = {(one.image.tobytes(), one.edit.instruction): one.edit for one in items}

    def rule(image: Image.Image, instruction: str) -> Image.Image:
        edit = edits[image.tobytes(), instruction]
        things = list(edit.source.things)
        if edit.kind == "add":
            things = list(edit.target.things)
        elif edit.kind == "remove":
            things = [thing for thing in edit.target.things if thing.place != "top left"] + [EXTRA]
        rng = np.random.default_rng(0)
        return Image.fromarray(render(Scene.of(things), rng, load_scans("evaluation")))

    policy = FakeEditor(rule)
    for module in ("evaluation.model", "runs.models"):
        monkeypatch.setattr(f"pairuni.{module}.load_model", lambda *names, **settings: policy)
    return policy


def test_a_run_scores_each_part_of_each_kind(
    editor: FakeEditor, items: list[Instructed], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    said = evaluate(*WORDS, "--out", out, "--image-guidance", 1)
    assert "Digits edits (pairuni): 25.00 [12.00, 44.90] % of held-out edits" in said
    (request,) = editor.requests
    assert (request.guidance, request.image_guidance, request.seed, len(request.images)) == (3.5, 1.0, 0, 24)
    result = read_result(out / "digits-edits-pairuni.json")
    removals = [one.edit for one in items if one.edit.kind == "remove"]
    elsewhere = sum(edit.place != "top left" for edit in removals)
    assert 0 < elsewhere < 6
    assert result.parts == {
        "instruction followed": pytest.approx(100 * (6 + elsewhere) / 24),
        "rest kept": pytest.approx(100 * (18 + 6 - elsewhere) / 24),
        "recolour": 0,
        "recolour, instruction followed": 0,
        "recolour, rest kept": 100,
        "remove": 0,
        "remove, instruction followed": pytest.approx(100 * elsewhere / 6),
        "remove, rest kept": pytest.approx(100 * (6 - elsewhere) / 6),
        "add": 100,
        "add, instruction followed": 100,
        "add, rest kept": 100,
        "replace": 0,
        "replace, instruction followed": 0,
        "replace, rest kept": 100,
    }
    assert (result.counts["all"], result.counts["add"]) == (24, 6)
    assert (result.settings["guidance"], result.settings["image guidance"]) == (3.5, 1.0)
    assert result.settings["seed of the items"] == 0
    written = json.loads((out / "evaluation" / "edits.json").read_text())
    direct = evaluate_edits(editor, items, guidance=3.5, image_guidance=1.0, seed=0)
    assert [row["correct"] for row in written["items"]] == [one.correct for one in direct.edits]
    assert [row["reply"] for row in written["items"]] == [one.reply for one in direct.edits]
    assert (out / "pictures" / "00023.png").is_file()
    assert recorded(out) == [f"edit {number}" for number in range(24)]


def test_a_finished_run_edits_nothing_again_and_a_lost_image_alone(
    editor: FakeEditor, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    evaluate(*WORDS, "--out", out)
    kept = {path: path.read_bytes() for path in (out / "table.txt", *(out / "pictures").iterdir())}
    (out / "pictures" / "00005.png").unlink()
    for _ in range(2):
        evaluate(*WORDS, "--out", out)
        assert {path: path.read_bytes() for path in kept} == kept
    assert len(editor.requests) == 2
    assert "guidance was None, is 2.0" in evaluate(*WORDS, "--out", out, "--guidance", 2, code=1)


def test_without_a_folder_only_the_table_is_left(editor: FakeEditor) -> None:
    said = evaluate(*WORDS)
    assert "Digits edits (pairuni): 25.00" in said
    assert "results:" not in said


def test_a_model_that_cannot_edit_is_refused_before_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pairuni.evaluation.model.load_model", None)
    said = evaluate(*WORDS, "--out", tmp_path / "run", code=1)
    assert "The policy tiny cannot edit images; choose a model that can, such as Lumina-DiMOO." in said
    assert not (tmp_path / "run").exists()

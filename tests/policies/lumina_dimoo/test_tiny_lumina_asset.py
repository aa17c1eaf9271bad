"""The tiny Lumina-DiMOO in the package."""

import pytest

from pairuni.digits.edit_evaluation import evaluate_edits, score_of
from pairuni.digits.edits import held_out_edits
from pairuni.digits.evaluation import evaluate
from pairuni.digits.world import held_out_items
from pairuni.policies.registry import load_policy, resolve

pytest.importorskip("diffusers")

ITEMS = 64


@pytest.fixture(scope="module")
def policy():
    return load_policy("tiny-lumina", device="cpu", dtype="float32")


def test_it_is_small_and_loads_as_its_folder():
    folder = resolve("tiny-lumina")
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 16 << 20
    assert (folder / "README.md").is_file()


def test_it_answers_and_draws_better_than_chance_and_can_improve(policy):
    """Chance is about a fifth of the answers and a hundredth of the images."""
    scores = evaluate(policy, held_out_items(1, ITEMS), guidance=policy.default_guidance, seed=1).scores()
    assert 0.25 < scores["understanding"] < 0.7
    assert 0.15 < scores["generation"] < 0.6


def test_it_edits(policy):
    evaluation = evaluate_edits(
        policy,
        held_out_edits(1, ITEMS),
        guidance=policy.default_edit_guidance,
        image_guidance=policy.default_image_guidance,
        seed=1,
    )
    assert 0.3 < score_of(evaluation.edits) < 0.8

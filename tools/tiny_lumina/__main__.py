"""python -m tools.tiny_lumina --out DIR: pretrain the tiny Lumina-DiMOO from scratch."""

from __future__ import annotations

from pairuni.digits.edit_evaluation import evaluate_edits, score_of
from pairuni.digits.edits import held_out_edits
from pairuni.digits.evaluation import evaluate
from pairuni.digits.world import held_out_items
from pairuni.policies import load_policy
from pairuni.policies.lumina_dimoo.policy import LuminaDimooPolicy
from tools.pretraining.command import output_folder, progress
from tools.tiny_lumina.card import write_card
from tools.tiny_lumina.model import SAMPLING
from tools.tiny_lumina.recipe import Recipe, pretrain

ITEMS = 510


def main() -> None:
    out = output_folder(__doc__)
    recipe = Recipe()
    pretrain(out, recipe, progress())
    policy = load_policy(out, dtype="float32")
    assert isinstance(policy, LuminaDimooPolicy)
    items = held_out_items(recipe.seed, ITEMS)
    evaluation = evaluate(policy, items, guidance=SAMPLING.guidance, seed=recipe.seed)
    edits = evaluate_edits(
        policy,
        held_out_edits(recipe.seed, ITEMS),
        guidance=SAMPLING.edit_guidance,
        image_guidance=SAMPLING.image_guidance,
        seed=recipe.seed,
    )
    write_card(out, policy, recipe, evaluation, edits)
    print(evaluation.scores(), score_of(edits.edits))


if __name__ == "__main__":
    main()

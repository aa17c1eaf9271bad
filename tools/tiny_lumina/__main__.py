"""python -m tools.tiny_lumina --out DIR: pretrain the tiny Lumina-DiMOO from scratch."""

from __future__ import annotations

from pairuni.digits.evaluation import evaluate
from pairuni.digits.world import held_out_items
from pairuni.policies import load_policy
from pairuni.policies.lumina_dimoo.policy import LuminaDimooPolicy
from tools.pretraining.command import output_folder, progress
from tools.tiny_lumina.card import write_card
from tools.tiny_lumina.model import SAMPLING
from tools.tiny_lumina.recipe import Recipe, pretrain


def main() -> None:
    out = output_folder(__doc__)
    recipe = Recipe()
    pretrain(out, recipe, progress())
    policy = load_policy(out, dtype="float32")
    assert isinstance(policy, LuminaDimooPolicy)
    items = held_out_items(recipe.seed, 510)
    evaluation = evaluate(policy, items, guidance=SAMPLING.guidance, seed=recipe.seed)
    write_card(out, policy, recipe, evaluation)
    print(evaluation.scores())


if __name__ == "__main__":
    main()

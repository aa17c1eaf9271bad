"""python -m tools.tiny_model --out DIR: pretrain the shipped tiny model from scratch."""

from __future__ import annotations

from pairuni.digits.evaluation import evaluate
from pairuni.digits.world import held_out_items
from pairuni.policies import load_policy
from tools.pretraining.command import output_folder, progress
from tools.tiny_model.card import write_card
from tools.tiny_model.recipe import Recipe, pretrain

GUIDANCE = 2.0


def main() -> None:
    out = output_folder(__doc__)
    recipe = Recipe()
    pretrain(out, recipe, progress())
    policy = load_policy(out, dtype="float32")
    evaluation = evaluate(policy, held_out_items(recipe.seed, 510), guidance=GUIDANCE, seed=recipe.seed)
    parameters = sum(parameter.numel() for parameter in policy.module.parameters())
    write_card(out, recipe, evaluation, parameters=parameters, guidance=GUIDANCE)
    print(evaluation.scores())


if __name__ == "__main__":
    main()

"""python -m tools.tiny_lumina --out DIR: pretrain the tiny Lumina-DiMOO from scratch."""

from __future__ import annotations

import torch

from pairuni.digits.world import held_out_items
from pairuni.policies.lumina_dimoo.loading import load_checkpoint
from tools.pretraining.command import output_folder, progress
from tools.tiny_lumina.card import write_card
from tools.tiny_lumina.recipe import Recipe, pretrain
from tools.tiny_lumina.scoring import Decoding, score

ITEMS = 510


def main() -> None:
    out = output_folder(__doc__)
    recipe, decoding = Recipe(), Decoding()
    pretrain(out, recipe, progress())
    checkpoint = load_checkpoint(out, dtype=torch.float32)
    evaluation = score(checkpoint, held_out_items(recipe.seed, ITEMS), decoding)
    write_card(out, checkpoint, recipe, evaluation, decoding)
    print(evaluation.scores())


if __name__ == "__main__":
    main()

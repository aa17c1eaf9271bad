"""The plans in the comments of the recipes: those that the command prints, on cards that hold them."""

import re

import pytest

from tools.make_recipe_plans import PLANS, RECIPES, with_plan


def test_every_full_size_recipe_has_a_plan() -> None:
    assert {path.stem for path in RECIPES.glob("*.toml")} - {"digits"} == set(PLANS)


@pytest.mark.parametrize("recipe", PLANS)
def test_the_plan_of_a_recipe(recipe: str) -> None:
    text = (RECIPES / f"{recipe}.toml").read_text(encoding="utf-8")
    assert text == with_plan(recipe), "run python tools/make_recipe_plans.py"
    _, gpus, card = PLANS[recipe]
    found = re.search(rf"^#   {gpus} x {card} +fits: ([\d.]+) GiB of ([\d.]+) GiB$", text, re.M)
    assert found is not None
    assert float(found[1]) <= float(found[2])
    assert f"train recipes/{recipe}.toml" in text
    assert f"--nproc-per-node {gpus} " in text or gpus == 1

"""Writes the tables of docs/hardware.md: which GPUs hold which model and recipe, by the plan of ``pairuni train``.

A plan needs sizes only, so nothing is downloaded.

python tools/make_hardware_tables.py
"""

from __future__ import annotations

import itertools
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from pairuni.config import RunSettings, load_settings
from pairuni.pairgrpo.cards import CARDS, Card
from pairuni.pairgrpo.plan import StrategyName, plan_run
from pairuni.policies.policy import UnifiedPolicy
from pairuni.runs.models import load_for_run
from tools.make_recipe_plans import RECIPES, HPSv2Sizes, write_model
from tools.markdown import table

PAGE = Path(__file__).parents[1] / "docs" / "hardware.md"
GPUS = (1, 2, 4, 8)
TIGHT = 0.95
"""Share of the memory for tensors from which a cell is marked."""


@dataclass(frozen=True)
class Training:
    """A model, how it trains, its recipe, and the settings that differ from it."""

    model: str
    shape: str
    how: str
    recipe: str
    changes: tuple[str, ...] = ()


ADAPTERS = ("--policy.lora.rank 32", "--pairgrpo.learning-rate 1e-5")
TRAININGS = (
    Training("Janus-Pro-1B", "janus-pro-1b", "full", "janus_pro_1b"),
    Training("Janus-Pro-1B", "janus-pro-1b", "LoRA", "janus_pro_1b_lora"),
    Training("Janus-Pro-7B", "janus-pro-7b", "full", "janus_pro_7b"),
    Training("Janus-Pro-7B", "janus-pro-7b", "LoRA", "janus_pro_7b_lora"),
    Training("Lumina-DiMOO", "lumina-dimoo", "full", "lumina_dimoo"),
    Training("Lumina-DiMOO", "lumina-dimoo", "LoRA", "lumina_dimoo", ADAPTERS),
)


def page(text: str) -> str:
    """The page with new tables between its marks."""
    found = re.fullmatch(r"(.*<!-- tables -->\n).*(<!-- end of tables -->.*)", text, re.S)
    if found is None:
        raise ValueError("the page lacks the comments between which the tables stand")
    rewards = sum(
        tensor.nbytes for model in HPSv2Sizes().models for tensor in (*model.parameters(), *model.buffers())
    )
    cells = {one: dict(_cells(one, rewards)) for one in TRAININGS}
    shortest = [
        (f"{one.model}, {one.how}", *(_fewest(cells[one], card) for card in CARDS)) for one in TRAININGS
    ]
    parts = [table(["", *(card.name for card in CARDS)], shortest)]
    for one in TRAININGS:
        rows = [(str(gpus), *(cells[one][gpus, card.name] or "no" for card in CARDS)) for gpus in GPUS]
        command = " ".join(["pairuni train", one.recipe, *one.changes])
        parts.append(f"### {one.model}, {one.how}\n\n`{command}`")
        parts.append(table(["GPUs", *(card.name for card in CARDS)], rows))
    made = "\n\n".join(parts)
    return f"{found[1]}\n{made}\n\n{found[2]}"


def _cells(training: Training, rewards: int) -> Iterator[tuple[tuple[int, str], str]]:
    """(number of GPUs, card) -> the cell; "" if the run does not fit. rewards: bytes of the rewards' weights."""
    words = [word for change in ("--policy.model=none", *training.changes) for word in change.split()]
    recipe = RECIPES / f"{training.recipe}.toml"
    variants = {
        letter: load_settings(RunSettings, recipe, [*words, *more])
        for letter, more in (("", ()), ("C", ("--policy.activation-checkpointing=true",)))
    }
    policy = _skeleton(training.shape)
    policy.train_only(variants[""].policy.trainable)
    for gpus in GPUS:
        for card in CARDS:
            yield (gpus, card.name), _cell(variants, policy, gpus, card, rewards)


@cache
def _skeleton(shape: str) -> UnifiedPolicy:
    """The policy of a model of this shape, without weights."""
    recipe = next(one.recipe for one in TRAININGS if one.shape == shape)
    with tempfile.TemporaryDirectory() as folder:
        write_model(shape, Path(folder))
        settings = load_settings(RunSettings, RECIPES / f"{recipe}.toml", {"policy.model": folder})
        return load_for_run(settings.policy, weights=False)


def _cell(
    variants: Mapping[str, RunSettings], policy: UnifiedPolicy, gpus: int, card: Card, rewards: int
) -> str:
    """Seconds of a step, and the letters of the first variant that fits; whole before sharded, as auto chooses."""
    dtype, memory = torch.bfloat16, card.usable - rewards
    strategies: tuple[StrategyName, ...] = ("replicate",) if gpus == 1 else ("replicate", "shard")
    for (letter, settings), strategy in itertools.product(variants.items(), strategies):
        plan = plan_run(settings, policy, dtype, world_size=gpus, strategy=strategy, memory=memory)
        if plan.fits(card, rewards):
            seconds = plan.step_seconds(card, dtype, gpus)
            said = f"{seconds:.2g} s" if seconds < 100 else f"{seconds / 60:.0f} min"
            tight = plan.peak + rewards > TIGHT * card.usable
            marks = " ".join(filter(None, [letter, "S" if strategy == "shard" else "", "T" if tight else ""]))
            return f"{said}, {marks}" if marks else said
    return ""


def _fewest(cells: Mapping[tuple[int, str], str], card: Card) -> str:
    fitting = [gpus for gpus in GPUS if cells[gpus, card.name]]
    return str(fitting[0]) if fitting else "no"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(PAGE)

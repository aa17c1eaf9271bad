"""Scoring a checkpoint on held-out items."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pairuni.config import RunSettings
from pairuni.training.tracking import Progress

if TYPE_CHECKING:
    from pairuni.policies.policy import UnifiedPolicy


def digits(
    model: str, *, items: int, guidance: float | None, seed: int, out: Path | None, device: str, dtype: str
) -> str:
    """Score a policy on ``items`` held-out items of the digits world a task; returns the scores as text.

    Everything marked is written to ``out`` when that is given.
    """
    if out is not None and out.exists():
        raise ValueError(f"{out} exists; give a new folder")
    from pairuni.digits.evaluation import evaluate
    from pairuni.digits.world import held_out_items
    from pairuni.policies.registry import load_policy

    policy = load_policy(model, device=device, dtype=dtype)
    held_out = held_out_items(seed, items)
    guidance = policy.default_guidance if guidance is None else guidance
    with Progress("held-out scenes", total=2 * items, unit="items") as progress:
        result = evaluate(policy, held_out, guidance=guidance, seed=seed, advance=progress.advance)
    if out is not None:
        result.write(out / "evaluation", "after")
        (out / "summary.json").write_text(json.dumps({"seed": seed, "after": result.scores()}) + "\n")
    return "\n".join(f"{task:<16}{100 * score:.1f}%" for task, score in result.scores().items())


def in_training(settings: RunSettings) -> Callable[[UnifiedPolicy, int], Mapping[str, float]] | None:
    """What a run scores itself with every ``evaluation.every`` steps; None when it never does."""
    if settings.evaluation.every == 0:
        return None
    from pairuni.digits.evaluation import evaluate
    from pairuni.digits.world import held_out_items

    held_out = held_out_items(settings.seed, settings.evaluation.items)

    def scores(policy: UnifiedPolicy, step: int) -> Mapping[str, float]:
        guidance = settings.rollout.guidance
        return evaluate(policy, held_out, guidance=guidance, seed=settings.seed).scores()

    return scores

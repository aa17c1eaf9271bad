"""Scoring a checkpoint on held-out items."""

from __future__ import annotations

import json
from pathlib import Path

from pairuni.training.tracking import Progress


def digits(
    model: str, *, items: int, guidance: float, seed: int, out: Path | None, device: str, dtype: str
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
    with Progress("held-out scenes", total=2 * items, unit="items") as progress:
        result = evaluate(policy, held_out, guidance=guidance, seed=seed, advance=progress.advance)
    if out is not None:
        result.write(out / "evaluation", "after")
        (out / "summary.json").write_text(json.dumps({"seed": seed, "after": result.scores()}) + "\n")
    return "\n".join(f"{task:<16}{100 * score:.1f}%" for task, score in result.scores().items())

"""The estimate of ``pairuni train --dry-run`` as lines of text."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from pairuni.pairgrpo.plan import CARDS, Plan


def describe_plan(plan: Plan) -> str:
    """Parameters, memory and tokens."""
    rows = [
        ("parameters", f"{plan.parameters:,}"),
        ("  trained", f"{plan.trained:,}"),
        ("memory, estimated", _size(plan.peak)),
        ("  weights", _size(plan.weights)),
        ("  gradients", _size(plan.gradients)),
        ("  optimizer", _size(plan.optimizer)),
        *([("  reference", _size(plan.reference))] if plan.reference else []),
        ("  activations", f"{_size(plan.activations)} (in the update)"),
        ("  keys and values", f"{_size(plan.rollout_cache)} (in the rollout)"),
        ("tokens a step", f"at most {plan.sampled_tokens:,} sampled"),
        ("", f"at most {plan.replayed_tokens:,} replayed in each update"),
    ]
    return "\n".join(f"{name:<20}{value}" for name, value in rows)


def describe_reward_models(sizes: Mapping[str, int]) -> str:
    """``reward_model_bytes``, one device a line."""
    rows = [f"{_size(size)} of weights on {device}" for device, size in sizes.items()]
    return "\n".join(f"{'reward models':<20}{row}" for row in rows)


def describe_cards(plan: Plan, dtype: torch.dtype, reward_models: int) -> str:
    """Which GPUs hold the run and its reward models, and about how long a step takes there."""
    rows = []
    for card in CARDS:
        if plan.fits(card, reward_models):
            seconds = plan.step_seconds(card, dtype)
            taken = f"{seconds:.2g} s" if seconds < 100 else f"{seconds / 60:.0f} minutes"
            rows.append(f"{card.name}: fits, about {taken} a step without rewards")
        else:
            rows.append(f"{card.name}: does not fit")
    names = ["one GPU, estimated", *[""] * (len(rows) - 1)]
    return "\n".join(f"{name:<20}{row}" for name, row in zip(names, rows, strict=True))


def _size(size: int) -> str:
    """Bytes in words: 12 MiB, 26.4 GiB."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"

"""What rollouts and replays cost a policy, in tokens, for plans and for micro-batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

PROMPT_TOKENS = 64
"""Assumed tokens of a prompt or a question, besides those of its image."""


@dataclass(frozen=True, kw_only=True)
class RolloutCost:
    """Tokens of the rollouts of one group, at most; prompts are shared by a group where the policy shares them.

    rows: sequences that are decoded together. steps: passes over the weights, one after the other. sampled: tokens of
    the samples. computed: tokens of passes over complete sequences, whose cost is arithmetic, not the reading of
    weights. cached: tokens whose keys and values are stored. replayed: tokens that an update reads; largest: those of
    one trajectory with its prompt, which no micro-batch divides. keys: those that attention reads in an update.
    """

    rows: int
    steps: int
    sampled: int
    computed: int = 0
    cached: int
    replayed: int
    largest: int
    keys: int

    @classmethod
    def together(cls, costs: Sequence[RolloutCost]) -> RolloutCost:
        """The cost of rollouts of these ``costs`` that are decoded in the same steps."""
        sums = {name: sum(getattr(one, name) for one in costs) for name in (one.name for one in fields(cls))}
        largest = {name: max(getattr(one, name) for one in costs) for name in ("steps", "largest")}
        return cls(**sums | largest)


@dataclass(frozen=True)
class ReplayCost:
    """Cost of one forward pass of ``UnifiedPolicy.log_probs``.

    tokens: those that pass through the layers. keys: those that attention reads.
    """

    tokens: int
    keys: int

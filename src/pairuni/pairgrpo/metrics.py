"""The metrics of a step. Names are TRL's where TRL has one, prefixed with the task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pairuni.config import PairGRPOSettings
from pairuni.distributed.world import World, added
from pairuni.pairgrpo.advantages import unified_rewards, zero_variance_groups
from pairuni.pairgrpo.batch import StepNumbers, TaskNumbers
from pairuni.pairgrpo.objective import (
    LossTerms,
    clipped_tokens,
    importance_ratio,
    k3_kl,
    weighted_token_sum,
)
from pairuni.policies.trajectories import Trajectory
from pairuni.records import TASKS

_AVERAGED = (
    "reward",
    "reward_std",
    "frac_reward_zero_std",
    "kl",
    "completions/mean_length",
    "clip_ratio/low_mean",
    "clip_ratio/high_mean",
    "clip_ratio/region_mean",
)


def reward_metrics(numbers: TaskNumbers) -> dict[str, float]:
    """Rewards, the terms of a summed reward, and lengths of one task's rollouts."""
    lengths = numbers.sampled_tokens.double()
    metrics = {
        "reward": float(numbers.rewards.mean()),
        "reward_std": float(numbers.rewards.std(dim=-1).mean()),
        "frac_reward_zero_std": float(zero_variance_groups(numbers.rewards).double().mean()),
        "completions/mean_length": float(lengths.mean()),
        "completions/min_length": float(lengths.min()),
        "completions/max_length": float(lengths.max()),
    }
    if len(numbers.terms) > 1:
        metrics |= {f"reward/{name}": float(scores.mean()) for name, scores in numbers.terms.items()}
    if numbers.unfinished:
        metrics["completions/clipped_ratio"] = sum(numbers.unfinished) / len(numbers.unfinished)
    return metrics


def unified_metrics(numbers: StepNumbers, weight: float) -> dict[str, float]:
    """Those of ``unified_rewards``: the groups that have zero variance here have no gradient in either task."""
    rewards = unified_rewards(
        numbers.task("understanding").rewards, numbers.task("generation").rewards, weight
    )
    return {
        "unified/reward": float(rewards.mean()),
        "unified/reward_std": float(rewards.std(dim=-1).mean()),
        "unified/frac_reward_zero_std": float(zero_variance_groups(rewards).double().mean()),
    }


def mean_of_tasks(metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics without prefix: the plain mean over the tasks that have them."""
    means = {}
    for name in _AVERAGED:
        values = [metrics[f"{task}/{name}"] for task in TASKS if f"{task}/{name}" in metrics]
        if values:
            means[name] = sum(values) / len(values)
    return means


@dataclass
class LossStatistics:
    """Sums over the tokens of a step's updates, kept as tensors so that the host does not wait for the device."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    largest_mismatch: Tensor | None = None

    def add(self, terms: LossTerms, loss: Tensor, settings: PairGRPOSettings) -> None:
        ratio = importance_ratio(terms.log_probs, terms.old_log_probs, terms.mask)
        low, high = clipped_tokens(ratio, terms.advantages, terms.mask, settings.clip_low, settings.clip_high)
        self._add("tokens", terms.mask.sum())
        self._add("low", low)
        self._add("high", high)
        self._add("loss", loss)
        if terms.reference_log_probs is not None:
            kl = k3_kl(terms.log_probs, terms.reference_log_probs)
            self._add("kl", weighted_token_sum(kl, terms.mask, torch.ones_like(terms.coefficients)))

    def add_mismatch(self, trajectories: Sequence[Trajectory], terms: LossTerms) -> None:
        """|log-prob at sampling - log-prob on replay|: the error of incremental decoding."""
        sampled = nn.utils.rnn.pad_sequence([t.log_probs for t in trajectories], batch_first=True)
        difference = (sampled.to(terms.log_probs) - terms.log_probs).abs()
        difference = torch.where(terms.mask.bool(), difference, 0.0)
        self._add("mismatch", difference.sum())
        self._add("replayed", terms.mask.sum())
        largest, before = difference.max(), self.largest_mismatch
        self.largest_mismatch = largest if before is None else torch.maximum(before, largest)

    def metrics(self, updates: int, world: World) -> dict[str, float]:
        """Means over the tokens and updates of all ranks; empty if no trajectory of the task was replayed.

        An exchange.
        """
        largest = -1.0 if self.largest_mismatch is None else float(self.largest_mismatch)
        own = {name: float(value) for name, value in self.sums.items()}
        rows = world.gather((own, largest))
        sums = added(row for row, _ in rows)
        if not sums:
            return {}
        low, high = sums["low"] / sums["tokens"], sums["high"] / sums["tokens"]
        metrics = {
            "loss": sums["loss"] / updates,
            "clip_ratio/low_mean": low,
            "clip_ratio/high_mean": high,
            "clip_ratio/region_mean": low + high,
            "sampling/sampling_logp_difference/mean": sums["mismatch"] / sums["replayed"],
            "sampling/sampling_logp_difference/max": max(largest for _, largest in rows),
        }
        if "kl" in sums:
            metrics["kl"] = sums["kl"] / sums["tokens"]
        return metrics

    def _add(self, name: str, value: Tensor) -> None:
        value = value.detach().double()
        self.sums[name] = self.sums[name] + value if name in self.sums else value

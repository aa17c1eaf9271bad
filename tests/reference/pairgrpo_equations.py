"""PairGRPO's equations (arXiv:2510.25682, section 2.2), transcribed one loop a symbol. Slow on purpose.

Everything is a Python loop over pairs p, rollouts k and tokens t; log-probs are scalar tensors, so autograd
gives the gradient of what is written here. Nothing of pairuni is imported.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Side:
    """One task of one pair: K trajectories of T_k tokens.

    log_probs[k][t], old[k][t], reference[k][t]: scalars; rewards[k]; masked[k]: it has no loss.
    """

    log_probs: list[list[Tensor]]
    old: list[list[float]]
    rewards: list[float]
    reference: list[list[float]] | None = None
    masked: list[bool] | None = None


def advantage(rewards: Sequence[float], k: int, guard: float) -> float:
    """Eq. 1: A_k = (r_k - mean(r)) / std(r), 0 for a group without spread."""
    mean = sum(rewards) / len(rewards)
    if max(rewards) == min(rewards):
        return 0.0
    std = math.sqrt(sum((r - mean) ** 2 for r in rewards) / (len(rewards) - 1))
    return (rewards[k] - mean) / (std + guard)


def unified_reward(understanding: Sequence[float], generation: Sequence[float], k: int, w: float) -> float:
    """CoRL (arXiv:2505.17534): R_k = R_gen,k + w R_und,k of answer k and image k, instead of one reward a task."""
    return generation[k] + w * understanding[k]


def weight(similarity: float, aligned: bool, mode: str) -> float:
    """Eq. 2: w_p = 1 if p is aligned, sqrt(s_p) if p is retrieved; linear and none are ablations."""
    if aligned or mode == "none":
        return 1.0
    return math.sqrt(similarity) if mode == "sqrt" else similarity


def token_objective(
    log_prob: Tensor,
    old: float,
    reference: float | None,
    weighted_advantage: float,
    clip_low: float,
    clip_high: float,
    beta: float,
) -> Tensor:
    """Eq. 3 of one token: min(ratio A, clip(ratio) A) - beta k3."""
    ratio = torch.exp(log_prob - old)
    if float(ratio.detach()) < 1 - clip_low:
        clipped = torch.tensor(1 - clip_low, dtype=log_prob.dtype) * weighted_advantage
    elif float(ratio.detach()) > 1 + clip_high:
        clipped = torch.tensor(1 + clip_high, dtype=log_prob.dtype) * weighted_advantage
    else:
        clipped = ratio * weighted_advantage
    unclipped = ratio * weighted_advantage
    value = unclipped if float(unclipped.detach()) <= float(clipped.detach()) else clipped
    if beta > 0:
        assert reference is not None
        value = value - beta * (torch.exp(reference - log_prob) - (reference - log_prob) - 1)
    return value


def task_objective(
    sides: Sequence[Side],
    weights: Sequence[float],
    *,
    guard: float,
    clip_low: float,
    clip_high: float,
    beta: float,
    reduction: str,
) -> Tensor:
    """Eq. 4 for one task: the expectation over pairs and rollouts of the reduced token objectives.

    Of masked rollouts the expectation over rollouts counts a 0, that over tokens nothing.
    """
    trajectories: list[list[Tensor]] = []
    count = 0
    for p, side in enumerate(sides):
        for k in range(len(side.rewards)):
            count += 1
            if side.masked is not None and side.masked[k]:
                continue
            weighted = weights[p] * advantage(side.rewards, k, guard)
            tokens = []
            for t in range(len(side.log_probs[k])):
                reference = None if side.reference is None else side.reference[k][t]
                tokens.append(
                    token_objective(
                        side.log_probs[k][t], side.old[k][t], reference, weighted, clip_low, clip_high, beta
                    )
                )
            trajectories.append(tokens)
    if reduction == "sequence-mean":
        return _sum([_mean(tokens) for tokens in trajectories]) / count
    if reduction == "sequence-sum":
        return _sum([_sum(tokens) for tokens in trajectories]) / count
    assert reduction == "token-mean"
    return _mean([value for tokens in trajectories for value in tokens])


def literal_adamw(
    parameter: Tensor, gradient: Tensor, moments: dict[str, Tensor], step: int, learning_rate: float
) -> Tensor:
    """AdamW without decay, beta 0.9 and 0.999, eps 1e-8: the new parameter."""
    moments["m"] = 0.9 * moments.get("m", torch.zeros_like(gradient)) + 0.1 * gradient
    moments["v"] = 0.999 * moments.get("v", torch.zeros_like(gradient)) + 0.001 * gradient * gradient
    m = moments["m"] / (1 - 0.9**step)
    v = moments["v"] / (1 - 0.999**step)
    return parameter - learning_rate * m / (v.sqrt() + 1e-8)


def _sum(values: Sequence[Tensor]) -> Tensor:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def _mean(values: Sequence[Tensor]) -> Tensor:
    return _sum(values) / len(values)

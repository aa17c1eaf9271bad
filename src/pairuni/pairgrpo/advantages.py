"""Group advantages and pair weights (arXiv:2510.25682, section 2.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from pairuni.config import PairWeight, RewardNormalisation

ROUNDING = 1e-6
"""Differences up to this share of a group's largest absolute reward count as rounding; about 8 float32 epsilons."""


def zero_variance_groups(rewards: Tensor) -> Tensor:
    """[G] bool: groups whose rewards [G, K] are equal up to rounding, and which therefore have no gradient.

    Normalising them would turn rounding, such as that of a batched forward pass, into full-size advantages.
    """
    difference = rewards.amax(dim=-1) - rewards.amin(dim=-1)
    return difference <= ROUNDING * rewards.abs().amax(dim=-1)


def group_advantages(rewards: Tensor, std_eps: float = 1e-4) -> Tensor:
    """Eq. 1: A = (r - mean) / (std + std_eps) within each group; rewards and result [G, K].

    std is the sample standard deviation (K - 1), as in TRL. Zero-variance groups get exactly 0, which std_eps alone
    does not ensure: the mean of equal floats may differ from them in the last bit, and rounding of large rewards may
    exceed std_eps. Raises ValueError if K < 2.
    """
    if rewards.shape[-1] < 2:
        raise ValueError(f"a group needs at least 2 rollouts to have an advantage, got {rewards.shape[-1]}")
    centred = rewards - rewards.mean(dim=-1, keepdim=True)
    scale = rewards.std(dim=-1, keepdim=True) + std_eps
    flat = zero_variance_groups(rewards).unsqueeze(-1)
    return torch.where(flat, 0.0, centred / torch.where(flat, 1.0, scale))


def weighted_sum(terms: Tensor, weights: Tensor) -> Tensor:
    """Rewards [G, K] that are the sum of terms [N, G, K] with weights [N]."""
    return torch.einsum("n,ngk->gk", weights, terms)


def combined_advantages(
    terms: Tensor, weights: Tensor, normalise: RewardNormalisation = "sum", std_eps: float = 1e-4
) -> Tensor:
    """Advantages [G, K] of rewards that are a sum of terms [N, G, K] with weights [N].

    "sum": advantages of the weighted sum; a term of large variance outweighs the others. "each": weighted mean of
    the terms' advantages, so that weights do not depend on the terms' scales; a term adds nothing to a group in
    which it has zero variance. For a single term of positive weight both are the same.
    """
    if normalise == "sum" or len(weights) == 1:
        return group_advantages(weighted_sum(terms, weights), std_eps)
    advantages = torch.stack([group_advantages(term, std_eps) for term in terms])
    return weighted_sum(advantages, weights) / weights.abs().sum()


def unified_rewards(understanding: Tensor, generation: Tensor, weight: float) -> Tensor:
    """Rewards [G, K] of a pair's rollouts taken together: that of image k plus ``weight`` times that of answer k.

    The rule of CoRL (arXiv:2505.17534), whose ULM-R1 has weight 0.8. Their advantages are those of both tasks.
    """
    return generation + weight * understanding


def pair_weight(similarity: Tensor, mode: PairWeight = "sqrt") -> Tensor:
    """Eq. 2: w_p of pairs with cosine similarity [P] in [0, 1]; an aligned pair has similarity 1 and weight 1."""
    if mode == "sqrt":
        return similarity.sqrt()
    if mode == "linear":
        return similarity.clone()
    if mode == "none":
        return torch.ones_like(similarity)
    raise ValueError(f"unknown pair weight {mode!r}; choose sqrt, linear or none")

"""Group advantages and pair weights (arXiv:2510.25682, section 2.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from pairuni.config import PairWeight, RewardNormalisation

ROUNDING = 1e-6
"""Differences up to this share of a group's largest absolute reward are rounding, about eight times float32's."""


def groups_without_spread(rewards: Tensor) -> Tensor:
    """[G] bool: groups whose rewards [G, K] are equal but for rounding, and which therefore teach nothing.

    Normalising would turn rounding, such as that of a batched forward pass, into advantages of full size.
    """
    spread = rewards.amax(dim=-1) - rewards.amin(dim=-1)
    return spread <= ROUNDING * rewards.abs().amax(dim=-1)


def group_advantages(rewards: Tensor, std_eps: float = 1e-4) -> Tensor:
    """A = (r - mean) / (std + std_eps) within each group; rewards and result [G, K].

    std is the sample standard deviation (K - 1), as in TRL. A group without spread gets exactly 0, which the
    guard alone would not give: the mean of equal floats may differ from them in the last bit, and rewards that
    are large beside the guard differ by more than it through rounding. Raises ValueError when K < 2.
    """
    if rewards.shape[-1] < 2:
        raise ValueError(f"a group needs at least 2 rollouts to have an advantage, got {rewards.shape[-1]}")
    centred = rewards - rewards.mean(dim=-1, keepdim=True)
    scale = rewards.std(dim=-1, keepdim=True) + std_eps
    flat = groups_without_spread(rewards).unsqueeze(-1)
    return torch.where(flat, 0.0, centred / torch.where(flat, 1.0, scale))


def weighted_sum(terms: Tensor, weights: Tensor) -> Tensor:
    """Rewards [G, K] of the terms [N, G, K] of a sum with weights [N]."""
    return torch.einsum("n,ngk->gk", weights, terms)


def combined_advantages(
    terms: Tensor, weights: Tensor, normalise: RewardNormalisation = "sum", std_eps: float = 1e-4
) -> Tensor:
    """Advantages [G, K] of rewards that are a sum of terms [N, G, K] with weights [N].

    sum: those of the weighted sum, in which a term of large spread outweighs the others. each: the weighted mean of
    the terms' own, so that a weight says what a term is worth whatever its scale; a term without spread in a group
    adds nothing there. One term of positive weight is the same either way.
    """
    if normalise == "sum" or len(weights) == 1:
        return group_advantages(weighted_sum(terms, weights), std_eps)
    own = torch.stack([group_advantages(term, std_eps) for term in terms])
    return weighted_sum(own, weights) / weights.abs().sum()


def pair_weight(similarity: Tensor, mode: PairWeight = "sqrt") -> Tensor:
    """w_p of pairs with cosine similarity [P] in [0, 1]; an aligned pair has similarity 1 and weight 1."""
    if mode == "sqrt":
        return similarity.sqrt()
    if mode == "linear":
        return similarity.clone()
    if mode == "none":
        return torch.ones_like(similarity)
    raise ValueError(f"unknown pair weight {mode!r}; choose sqrt, linear or none")

"""The PairGRPO objective (arXiv:2510.25682, section 2.2) as pure functions of log-probs.

Shapes: N trajectories of one task, T tokens, right-padded; mask 1 = real token.

Each task is normalised separately and then weighted: under a common token mean, the hundreds of tokens of one image
would outweigh the answers. The normalisers (``trajectory_coefficients``) are computed over the complete batch, so that
micro-batches do not change the gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pairuni.config import TokenReduction

MAX_LOG_RATIO = 20.0
"""Limit for log-ratios before exp, as in verl: e^20 is 4.9e8, and even its square fits in float32."""


@dataclass(frozen=True, kw_only=True)
class LossTerms:
    """The inputs of the loss for trajectories of one task.

    log_probs, old_log_probs, mask: [N, T]; advantages: [N], pair weight included; coefficients: [N], see
    ``trajectory_coefficients``; reference_log_probs: [N, T], needed if beta > 0. Only log_probs has a gradient.
    """

    log_probs: Tensor
    old_log_probs: Tensor
    mask: Tensor
    advantages: Tensor
    coefficients: Tensor
    reference_log_probs: Tensor | None = None


def importance_ratio(log_probs: Tensor, old_log_probs: Tensor, mask: Tensor) -> Tensor:
    """Eq. 3: [N, T] pi_theta / pi_old; exactly 1 on padding, for any padded log-probs.

    Finite for any finite log-probs: log-ratios are limited to MAX_LOG_RATIO and have no gradient above it.
    """
    return torch.where(mask.bool(), log_probs - old_log_probs, 0.0).clamp(max=MAX_LOG_RATIO).exp()


def clipped_surrogate(ratio: Tensor, advantage: Tensor, clip_low: float, clip_high: float) -> Tensor:
    """Eq. 3: min(ratio A, clip(ratio, 1 - clip_low, 1 + clip_high) A); ratio [N, T], advantage [N]."""
    advantage = advantage.unsqueeze(-1)
    clipped = ratio.clamp(1.0 - clip_low, 1.0 + clip_high)
    return torch.minimum(ratio * advantage, clipped * advantage)


def k3_kl(log_probs: Tensor, reference_log_probs: Tensor) -> Tensor:
    """Eq. 3: k3 estimate of KL(pi_theta || pi_ref) per token, exp(d) - d - 1 with d = ref - log_probs; [N, T].

    Finite for any finite log-probs: d is limited to MAX_LOG_RATIO and has no gradient above it.
    """
    difference = (reference_log_probs - log_probs).clamp(max=MAX_LOG_RATIO)
    return difference.exp() - difference - 1.0


def clipped_tokens(
    ratio: Tensor, advantage: Tensor, mask: Tensor, clip_low: float, clip_high: float
) -> tuple[Tensor, Tensor]:
    """Numbers of tokens (scalars) whose gradient the lower and the upper clip remove."""
    sign = advantage.unsqueeze(-1)
    low = (ratio < 1.0 - clip_low) & (sign < 0) & mask.bool()
    high = (ratio > 1.0 + clip_high) & (sign > 0) & mask.bool()
    return low.sum(), high.sum()


def trajectory_coefficients(lengths: Tensor, mode: TokenReduction, masked: Tensor | None = None) -> Tensor:
    """Eq. 4: [N] the weight of each token of a trajectory in its task's loss; lengths [N] of the *complete* batch.

    "sequence-mean": mean over a trajectory's tokens, then over trajectories, 1 / (N T_i).
    "token-mean": mean over all tokens of the task, 1 / sum T_i.
    "sequence-sum": sum over tokens, mean over trajectories, 1 / N, as the paper's equation is written.

    masked: [N] bool, trajectories without a loss, of weight 0. N still counts them and the sum of T_i does not, as in
    TRL's losses "grpo" and "bnpo" with ``mask_truncated_completions``.
    """
    count = len(lengths)
    lengths = lengths.to(torch.float64)
    kept = torch.ones_like(lengths) if masked is None else (~masked).to(lengths)
    if mode == "sequence-mean":
        return kept / (count * lengths)
    if mode == "token-mean":
        return kept / (kept * lengths).sum().clamp(min=1.0)
    if mode == "sequence-sum":
        return kept / count
    raise ValueError(f"unknown token reduction {mode!r}; choose sequence-mean, token-mean or sequence-sum")


def weighted_token_sum(values: Tensor, mask: Tensor, coefficients: Tensor) -> Tensor:
    """Scalar: the sum over real tokens of values [N, T] times the coefficient [N] of their trajectory."""
    kept = torch.where(mask.bool(), values, 0.0)
    return (kept.sum(dim=-1) * coefficients.to(kept)).sum()


def pairgrpo_loss(terms: LossTerms, *, clip_low: float, clip_high: float, beta: float) -> Tensor:
    """Eq. 4: -(clipped surrogate - beta KL), reduced over the tokens to a scalar.

    The loss of a step is the sum over the micro-batches of both tasks, weighted by task.
    """
    ratio = importance_ratio(terms.log_probs, terms.old_log_probs, terms.mask)
    objective = clipped_surrogate(ratio, terms.advantages.to(ratio), clip_low, clip_high)
    if beta > 0.0:
        assert terms.reference_log_probs is not None, "beta > 0 needs reference log-probs"
        real = terms.mask.bool()
        kl = k3_kl(torch.where(real, terms.log_probs, 0.0), torch.where(real, terms.reference_log_probs, 0.0))
        objective = objective - beta * kl
    return -weighted_token_sum(objective, terms.mask, terms.coefficients)

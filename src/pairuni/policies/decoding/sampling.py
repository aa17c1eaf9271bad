"""Samples the next token: temperature, guidance, exact draws; in float32 or finer for weights of any type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pairuni.policies.decoding.truncation import kept_tokens, pack, renormalised
from pairuni.policies.projection import Projection
from pairuni.policies.trajectories import LogProbBranch


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How tokens are sampled.

    temperature 0 is greedy. top_k 0 and top_p 1 keep all tokens, see ``truncation.kept_tokens``. guidance 1 needs no
    unconditional rows. A rollout ends with the first of ``stop_ids``, or after ``steps`` tokens. forced: (step, id)
    pairs; at these steps every rollout takes the id, which is no decision: its log-prob is 0. Raises ValueError for
    impossible values.
    """

    rollouts: int
    steps: int
    temperature: float
    top_k: int = 0
    top_p: float = 1.0
    guidance: float = 1.0
    branch: LogProbBranch = "conditional"
    stop_ids: tuple[int, ...] = ()
    forced: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        for name in ("rollouts", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1.")
        for name in ("temperature", "guidance"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                raise ValueError(f"{name} is {value}, but must be a finite number, 0 or larger.")
        if self.top_k < 0:
            raise ValueError(f"top_k is {self.top_k}, but must be 0, for all tokens, or larger.")
        if not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"top_p is {self.top_p}, but must be above 0 and at most 1.")
        if self.branch not in ("guided", "conditional"):
            raise ValueError(f"branch is {self.branch!r}, but must be 'guided' or 'conditional'.")

    @property
    def guided(self) -> bool:
        return self.guidance != 1.0

    @property
    def truncates(self) -> bool:
        """Whether some tokens cannot be sampled; a greedy choice is scored among all."""
        return self.temperature > 0 and (self.top_k > 0 or self.top_p < 1.0)

    @property
    def branches(self) -> int:
        """Rows per rollout: the conditional one, and where guided the unconditional one."""
        return 2 if self.guided else 1


def scoring_temperature(temperature: float) -> float:
    """The temperature of the softmax that log-probs are taken from: greedy tokens are scored at 1."""
    return temperature if temperature > 0 else 1.0


def uniform_noise(seed: int, stream: int, prompt: int, rollout: int, steps: int) -> Tensor:
    """The noise of one trajectory: [steps] float64 in [0, 1), a function of the four integers alone."""
    return torch.from_numpy(np.random.default_rng([seed, stream, prompt, rollout]).random(steps))


def sample_categorical(log_probs: Tensor, noise: Tensor) -> Tensor:
    """Exact categorical samples by inverting the cumulative distribution; [N, V] log-probs, [N] noise -> [N] ids.

    One uniform number per token, instead of a vector of V, is what lets every trajectory own its noise.
    """
    cumulative = log_probs.double().exp().cumsum(dim=-1)
    total = cumulative[:, -1:]
    # rounding must not lift the threshold to the total, beyond every token that has a probability
    threshold = torch.minimum(
        noise.unsqueeze(1).to(cumulative) * total, total.nextafter(torch.zeros_like(total))
    )
    ids = torch.searchsorted(cumulative, threshold, right=True).squeeze(1)
    return ids.clamp(max=log_probs.shape[-1] - 1)


@dataclass(frozen=True)
class Head:
    """States [N, H] -> features [N, F] -> logits [N, V]; ``project`` is affine.

    So guidance of logits is guidance of features, project(u + g (c - u)): one projection instead of two, and g does
    not multiply the rounding of low-precision logits.
    """

    features: Callable[[Tensor], Tensor]
    project: Projection

    def guided(self, conditional: Tensor, unconditional: Tensor, guidance: float | Tensor) -> Tensor:
        """Classifier-free guidance u + g (c - u) of features [N, F]; g a number or [N, 1]."""
        wide = unconditional.float()
        return (wide + guidance * (conditional.float() - wide)).to(conditional.dtype)


def sample_tokens(
    head: Head, states: Tensor, noise: Tensor, sampling: SamplingParams
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The next ids [N], their float32 log-probs [N], and where sampling truncates the packed kept tokens [N, B].

    states: [M, H] or, guided, [2 M, H]: the conditional rows first, then the unconditional ones. noise: [N]. After
    prefill M is the number of prompts: each row stands for the N / M rollouts of its prompt.
    """
    features = head.features(states)
    conditional = features
    if sampling.guided:
        conditional, unconditional = features.chunk(2)
        features = head.guided(conditional, unconditional, sampling.guidance)
    temperature = scoring_temperature(sampling.temperature)
    repeats = len(noise) // len(features)

    kept: Tensor | None = None

    def policy_of(rows: Tensor) -> Tensor:
        logits = torch.log_softmax(head.project(rows).float() / temperature, dim=-1)
        return logits if repeats == 1 else logits.repeat_interleave(repeats, dim=0)

    policy = policy_of(features)
    if sampling.truncates:
        kept = kept_tokens(policy, sampling.top_k, sampling.top_p)
        policy = renormalised(policy, kept)
    chosen = sample_categorical(policy, noise) if sampling.temperature > 0 else policy.argmax(dim=-1)
    if sampling.guided and sampling.branch == "conditional":
        policy = policy_of(conditional)
        policy = policy if kept is None else renormalised(policy, kept)
    scores = policy.gather(1, chosen.unsqueeze(1)).squeeze(1)
    return chosen, scores, None if kept is None else pack(kept)

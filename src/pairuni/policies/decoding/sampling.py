"""How the next token is chosen. Softmax and draws run in float32 or finer whatever the weights are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pairuni.policies.policy import LogProbBranch


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are drawn. temperature 0 is greedy; guidance 1 means no unconditional rows at all.

    stop_id: the token, or each of the tokens, that ends a rollout; None lets every rollout take all steps.
    """

    rollouts: int
    steps: int
    temperature: float
    guidance: float = 1.0
    branch: LogProbBranch = "conditional"
    stop_id: int | tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("rollouts", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1.")
        for name in ("temperature", "guidance"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                raise ValueError(f"{name} is {value}, but must be a finite number, 0 or larger.")
        if self.branch not in ("guided", "conditional"):
            raise ValueError(f"branch is {self.branch!r}, but must be 'guided' or 'conditional'.")

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """The tokens that end a rollout; none where ``stop_id`` is None."""
        if self.stop_id is None:
            return ()
        return (self.stop_id,) if isinstance(self.stop_id, int) else self.stop_id

    @property
    def guided(self) -> bool:
        return self.guidance != 1.0

    @property
    def branches(self) -> int:
        """Rows that a rollout takes: its own, and its unconditional twin's where guided."""
        return 2 if self.guided else 1


def scoring_temperature(temperature: float) -> float:
    """The temperature of the softmax that log-probs are taken of: greedy choices are scored at 1."""
    return temperature if temperature > 0 else 1.0


def guide(conditional: Tensor, unconditional: Tensor, guidance: float | Tensor) -> Tensor:
    """Classifier-free guidance u + g (c - u), [..., V]; g a number or [..., 1]."""
    return unconditional + guidance * (conditional - unconditional)


def uniforms(seed: int, stream: int, prompt: int, rollout: int, steps: int) -> Tensor:
    """The noise of one trajectory: [steps] float64 in [0, 1), a function of the four integers alone."""
    return torch.from_numpy(np.random.default_rng([seed, stream, prompt, rollout]).random(steps))


def draw(log_probs: Tensor, noise: Tensor) -> Tensor:
    """Exact categorical draws by inverting the distribution function. [N, V] log-probs, [N] noise -> [N] ids.

    One uniform number a token, instead of a vector of V, is what lets every trajectory own its noise.
    """
    cumulative = log_probs.double().exp().cumsum(dim=-1)
    threshold = noise.unsqueeze(1).to(cumulative) * cumulative[:, -1:]
    ids = torch.searchsorted(cumulative, threshold, right=True).squeeze(1)
    return ids.clamp(max=log_probs.shape[-1] - 1)


@dataclass(frozen=True)
class Head:
    """States [N, H] -> features [N, F] -> logits [N, V]; ``project`` is linear, up to a bias.

    So guidance of logits is guidance of features: project(u + g (c - u)), for one projection instead of two,
    and without multiplying the rounding of low-precision logits by g.
    """

    features: Callable[[Tensor], Tensor]
    project: nn.Linear

    def guided(self, conditional: Tensor, unconditional: Tensor, guidance: float | Tensor) -> Tensor:
        """Features [N, F] whose logits are the guided ones; g a number or [N, 1]."""
        return guide(conditional.float(), unconditional.float(), guidance).to(conditional.dtype)


def choose(head: Head, states: Tensor, noise: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """The next ids [N] and their float32 log-probs [N]; states [M, H] or, guided, [2 M, H]; noise [N].

    Guided states hold the conditional rows first, then their unconditional twins. Where M is less than N,
    each row is that of N / M rollouts in a row, which have nothing of their own yet.
    """
    features = head.features(states)
    conditional = features
    if sampling.guided:
        conditional, unconditional = features.chunk(2)
        features = head.guided(conditional, unconditional, sampling.guidance)
    temperature = scoring_temperature(sampling.temperature)
    repeats = len(noise) // len(features)

    def policy_of(rows: Tensor) -> Tensor:
        logits = torch.log_softmax(head.project(rows).float() / temperature, dim=-1)
        return logits if repeats == 1 else logits.repeat_interleave(repeats, dim=0)

    policy = policy_of(features)
    chosen = draw(policy, noise) if sampling.temperature > 0 else policy.argmax(dim=-1)
    if sampling.guided and sampling.branch == "conditional":
        policy = policy_of(conditional)
    return chosen, policy.gather(1, chosen.unsqueeze(1)).squeeze(1)

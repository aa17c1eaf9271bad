"""How the next token is chosen. Softmax and draws run in float32 or finer whatever the weights are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pairuni.policies.policy import LogProbBranch


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are drawn. temperature 0 is greedy; guidance 1 means no unconditional rows at all."""

    rollouts: int
    steps: int
    temperature: float
    guidance: float = 1.0
    branch: LogProbBranch = "conditional"
    stop_id: int | None = None

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
    """Classifier-free guidance u + g (c - u) of float32 logits, [..., V]; g a number or [..., 1]."""
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


def choose(logits: Tensor, noise: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """The next ids [N] and their float32 log-probs [N] from logits of the head, [N, V] or, guided, [2 N, V].

    noise: [N]. Guided logits hold the conditional rows first, then their unconditional twins.
    """
    logits = logits.float()
    conditional = logits[: len(noise)]
    guided = guide(conditional, logits[len(noise) :], sampling.guidance) if sampling.guided else conditional
    temperature = scoring_temperature(sampling.temperature)
    policy = torch.log_softmax(guided / temperature, dim=-1)
    chosen = draw(policy, noise) if sampling.temperature > 0 else guided.argmax(dim=-1)
    if sampling.guided and sampling.branch == "conditional":
        policy = torch.log_softmax(conditional / temperature, dim=-1)
    return chosen, policy.gather(1, chosen.unsqueeze(1)).squeeze(1)

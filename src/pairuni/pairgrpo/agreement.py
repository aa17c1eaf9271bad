"""Gradient agreement: whether the two tasks change the weights in the same direction (arXiv:2510.25682)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pairuni.config import PairGRPOSettings
from pairuni.pairgrpo.activations import with_micro_batches
from pairuni.pairgrpo.micro_batches import micro_batches
from pairuni.pairgrpo.rollout import RolloutBatch
from pairuni.policies.policy import UnifiedPolicy
from pairuni.records import Task


def task_gradient(
    policy: UnifiedPolicy,
    batch: RolloutBatch,
    parameters: Sequence[tuple[str, nn.Parameter]],
    settings: PairGRPOSettings,
    task: Task,
) -> list[Tensor]:
    """Gradient of one task's loss on a batch, one float32 tensor per parameter; does not change ``.grad``.

    beta and the tasks' weights are left out: the agreement is that of the two rewards.
    """
    tensors = [parameter for _, parameter in parameters]
    free = settings.model_copy(update={"beta": 0.0, "understanding_weight": 1.0, "generation_weight": 1.0})
    free = with_micro_batches(free, policy, batch, None)
    total = [torch.zeros_like(parameter, dtype=torch.float32) for parameter in tensors]
    for part in micro_batches(batch, free, [task]):
        gradients = torch.autograd.grad(part.loss(policy, free), tensors, allow_unused=True)
        for summed, gradient in zip(total, gradients, strict=True):
            if gradient is not None:
                summed += gradient
    return total


def gradient_agreement(
    policy: UnifiedPolicy,
    batch: RolloutBatch,
    parameters: Sequence[tuple[str, nn.Parameter]],
    settings: PairGRPOSettings,
) -> float:
    """Cosine in [-1, 1] between a step's understanding and generation gradients over all ``parameters``.

    nan if one of them is zero, as it is if all its groups have zero variance.
    """
    understanding = task_gradient(policy, batch, parameters, settings, "understanding")
    generation = task_gradient(policy, batch, parameters, settings, "generation")
    dot = sum(float((u.double() * g.double()).sum()) for u, g in zip(understanding, generation, strict=True))
    length_u = sum(float(u.double().square().sum()) for u in understanding) ** 0.5
    length_g = sum(float(g.double().square().sum()) for g in generation) ** 0.5
    return dot / (length_u * length_g) if length_u > 0 and length_g > 0 else float("nan")

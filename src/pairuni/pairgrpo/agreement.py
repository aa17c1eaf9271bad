"""Gradient agreement: whether the two tasks change the weights in the same direction (arXiv:2510.25682)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from pairuni.config import PairGRPOSettings
from pairuni.pairgrpo.activations import with_micro_batches
from pairuni.pairgrpo.batch import RolloutBatch
from pairuni.pairgrpo.micro_batches import micro_batches
from pairuni.policies.policy import UnifiedPolicy
from pairuni.records import TASKS, Task
from pairuni.runs.metrics import AGREEMENT

_WRAPPER = re.compile(r"^(?:(?:base_model|model|module|language_model|text_model)\.)+(?=.)")
_LAYER = re.compile(r"^layers\.(\d+)\.")
_NAMES = {"embed_tokens": "embeddings"}


def gradient_agreement(
    policy: UnifiedPolicy,
    batch: RolloutBatch,
    parameters: Sequence[tuple[str, nn.Parameter]],
    settings: PairGRPOSettings,
) -> dict[str, float]:
    """The exact agreement of a step's understanding and generation gradients, as ``cosines`` returns it."""
    understanding, generation = (task_gradient(policy, batch, parameters, settings, task) for task in TASKS)
    return agreement_of([name for name, _ in parameters], understanding, generation)


def agreement_of(
    names: Sequence[str], understanding: Sequence[Tensor], generation: Sequence[Tensor]
) -> dict[str, float]:
    """As ``cosines`` returns it, from the gradients of the parameters with these names."""
    sums: dict[str, list[float]] = {}
    for name, u, g in zip(names, understanding, generation, strict=True):
        u, g = u.double(), g.double()
        own = sums.setdefault(group_of(name), [0.0, 0.0, 0.0])
        for place, product in enumerate((u * g, u.square(), g.square())):
            own[place] += float(product.sum())
    return cosines({group: sums[group] for group in sorted(sums)})


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
    for part in micro_batches(policy, batch, free, [task]):
        loss = part.loss(policy, free)
        if not loss.requires_grad:  # no part that trains takes part in this task
            continue
        gradients = torch.autograd.grad(loss, tensors, allow_unused=True)
        for summed, gradient in zip(total, gradients, strict=True):
            if gradient is not None:
                summed += gradient
    return total


def group_of(name: str) -> str:
    """The part of the model that a parameter belongs to: ``layer_00`` for a decoder layer, else the module's name.

    ``model.language_model.layers.3.mlp.up_proj.weight`` is of ``layer_03``, ``model.generation_head.proj_out.bias`` of
    ``generation_head``, ``model.vision_model.encoder.layers.0.weight`` of ``vision_model``.
    """
    inner = _WRAPPER.sub("", name)
    if layer := _LAYER.match(inner):
        return f"layer_{int(layer[1]):02d}"
    part = inner.partition(".")[0]
    return _NAMES.get(part, part)


def cosines(sums: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Cosines in [-1, 1] between two gradients: ``AGREEMENT``, over all parameters, and ``AGREEMENT/<group>``.

    sums: for each group of parameters, the dot product and both squared norms. Where one of the two gradients is zero,
    as it is if all groups of a task have zero variance, there is no cosine, and the name is left out.
    """
    found = {AGREEMENT: _cosine(*(math.fsum(part) for part in zip(*sums.values(), strict=True)))}
    for group, own in sums.items():
        found[f"{AGREEMENT}/{group}"] = _cosine(*own)
    return {name: value for name, value in found.items() if value is not None}


def _cosine(dot: float, square: float, other_square: float) -> float | None:
    if not (square > 0.0 and other_square > 0.0):
        return None
    return max(-1.0, min(1.0, dot / math.sqrt(square) / math.sqrt(other_square)))

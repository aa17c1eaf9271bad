"""What a plan counts: the cost of a pair, the parameters of a policy, and the bytes of the training state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from pairuni.config import LoRASettings, RunSettings
from pairuni.pairgrpo.activations import LAYER, Adapter
from pairuni.policies.costs import RolloutCost
from pairuni.policies.policy import UnifiedPolicy
from pairuni.records import TASKS, Task


def rollout_cost(
    settings: RunSettings, policy: UnifiedPolicy, tasks: Sequence[Task] = TASKS, images: int = 1
) -> RolloutCost:
    """The most that one pair can cost in a step that trains these tasks. images: those of a question."""
    found = []
    if "understanding" in tasks:
        found.append(policy.text_cost(settings.rollout, images))
    if "generation" in tasks:
        found.append(policy.image_cost(settings.rollout))
    return RolloutCost.together(found)


@dataclass(frozen=True, kw_only=True)
class ParameterCounts:
    """Numbers of parameters, those of adapters apart.

    trained: those that train. merged: frozen matrices with an adapter, which sharding splits too. layer, trained_layer:
    what is split, and what trains, in a decoder layer, adapters included. head: the largest matrix that trains.
    adapters: those of a decoder layer by the name of the matrix. others: bytes of the policy's ``other_modules``.
    """

    parameters: int
    trained: int
    merged: int
    layers: int
    layer: int
    trained_layer: int
    head: int
    adapters: dict[str, Adapter]
    others: int

    @property
    def adapted_parameters(self) -> int:
        return self.layers * sum(one.parameters for one in self.adapters.values())

    @property
    def training(self) -> int:
        """All that train, adapters included."""
        return self.trained + self.adapted_parameters

    @property
    def split(self) -> int:
        """All that sharding splits."""
        return self.training + self.merged


def count_parameters(settings: RunSettings, policy: UnifiedPolicy) -> ParameterCounts:
    """Those of a policy, with the adapters that the settings add; its skeleton suffices."""
    lora, parts = settings.policy.lora, settings.policy.trainable
    layers = policy.module.config.get_text_config().num_hidden_layers  # type: ignore[operator, union-attr]
    trained = _parameters_of(policy, [part for part in parts if lora is None or part != "language_model"])
    language = {} if lora is None else _parameters_of(policy, ["language_model"])
    adapters = {} if lora is None else _adapters_for(lora, policy.module, language)
    added = sum(one.parameters for one in adapters.values())
    adapted = sum(one.inputs * one.outputs for one in adapters.values())
    in_layer = sum(size for name, size in trained.items() if LAYER.search(name)) // layers
    matrices = {name for name, parameter in policy.module.named_parameters() if parameter.ndim >= 2}
    return ParameterCounts(
        parameters=sum(parameter.numel() for parameter in policy.module.parameters()),
        trained=sum(trained.values()),
        merged=layers * adapted,
        layers=layers,
        layer=in_layer + added + adapted,
        trained_layer=in_layer + added,
        head=max((size for name, size in trained.items() if name in matrices), default=0),
        adapters=adapters,
        others=sum(one.nbytes for module in policy.other_modules for one in module.parameters()),
    )


def _parameters_of(policy: UnifiedPolicy, parts: list[str]) -> dict[str, int]:
    """Sizes of the parameters of these parts by name; what trains stays as it was."""
    if not parts:
        return {}
    before = [(parameter, parameter.requires_grad) for parameter in policy.module.parameters()]
    found = {name: parameter.numel() for name, parameter in policy.train_only(parts)}
    for parameter, trains in before:
        parameter.requires_grad_(trains)
    return found


def _adapters_for(lora: LoRASettings, module: nn.Module, language: dict[str, int]) -> dict[str, Adapter]:
    """The adapters that a decoder layer gets."""
    found = {}
    for name, one in module.named_modules():
        target = name.rpartition(".")[2]
        if (
            isinstance(one, nn.Linear)
            and target in lora.targets
            and f"{name}.weight" in language
            and LAYER.search(name)
        ):
            found[target] = Adapter(one.in_features, one.out_features, lora.rank)
    return found


@dataclass(frozen=True, kw_only=True)
class StateBytes:
    """Bytes of the training state; see ``Plan``."""

    weights: int
    inference_weights: int
    gradients: int
    optimizer: int
    reference: int
    gathered: int

    @property
    def kept(self) -> int:
        """In rollouts too."""
        return self.weights + self.inference_weights + self.optimizer + self.reference

    @property
    def bytes(self) -> int:
        return self.kept + self.gradients + self.gathered


def whole_state(settings: RunSettings, counts: ParameterCounts, dtype: torch.dtype) -> StateBytes:
    """The state of one device, or of each replica."""
    size, adapters = dtype.itemsize, counts.adapted_parameters
    low = size < 4
    return StateBytes(
        weights=counts.parameters * size + adapters * 4 + counts.others,
        inference_weights=counts.merged * size,
        gradients=counts.trained * (size + 4 if low else 4) + adapters * 4,
        optimizer=counts.trained * (12 if low else 8) + adapters * 8,
        reference=counts.trained * size if settings.pairgrpo.beta > 0 else 0,
        gathered=0,
    )


def sharded_state(
    settings: RunSettings, counts: ParameterCounts, dtype: torch.dtype, shards: int
) -> StateBytes:
    """The state of each of ``shards`` processes that hold one copy together.

    The weights outside of the layers stay gathered during an update, and so do two layers at a time, or all layers.
    Gradients are whole until they are reduced in float32; those outside of the layers are reduced at the end of a pass.
    """
    size, training = dtype.itemsize, counts.training
    frozen = counts.parameters - counts.trained - counts.merged
    root = counts.split - counts.layers * counts.layer
    trained_root = training - counts.layers * counts.trained_layer
    two_layers = min(2, counts.layers) * counts.layer
    shown = root + two_layers if settings.distributed.reshard_after_forward else counts.split
    whole_gradients = trained_root + 2 * counts.trained_layer
    return StateBytes(
        weights=-(-(training * 4 + counts.merged * size) // shards) + frozen * size + counts.others,
        inference_weights=(counts.trained + counts.merged) * size,
        gradients=-(-training * 4 // shards),
        optimizer=-(-training * 8 // shards),
        reference=-(-(counts.trained + counts.merged) * size // shards) if settings.pairgrpo.beta > 0 else 0,
        gathered=shown * size + whole_gradients * size + 4 * max(trained_root, 2 * counts.trained_layer),
    )

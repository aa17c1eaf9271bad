"""What policies around a Llama share: the parts that train, adapters, a reference, sharding, weights for decoding."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from pairuni.config import LoRASettings
from pairuni.io.files import atomic_folder
from pairuni.policies.adapters import (
    base_parameters,
    inject_lora,
    is_adapter,
    load_adapter_tensors,
    lora_config,
    read_adapter,
    save_adapter,
)
from pairuni.policies.inference import InferenceWeights, own_parameters, set_parameter, sharing_copy
from pairuni.policies.llama import PACKED_FORWARD, place_for_decoding
from pairuni.policies.parts import LANGUAGE_MODEL, REPLAY, ModelParts
from pairuni.policies.policy import Drawing, ReferencePolicy, Text, UnifiedPolicy
from pairuni.policies.sharding import shard_module
from pairuni.policies.trajectories import TrajectoryLogProbs, padded

Parts = TypeVar("Parts", bound=ModelParts)


class LlamaPolicy(UnifiedPolicy[Text, Drawing], Generic[Text, Drawing, Parts]):
    """A policy whose language model is a Llama.

    Sampling uses the weights ``inference``, scoring with gradient those that train. Both are the same until weights
    are sharded or get adapters. The model stays in eval mode, without dropout.
    """

    inference: Parts

    def __init__(self, model: Any) -> None:
        self.module = model.eval()
        self._training = self.inference = self._parts(model)
        place_for_decoding(self.inference.decoder)
        self._inference_weights: InferenceWeights | None = None
        self._lora: dict[str, Any] | None = None

    @abstractmethod
    def _parts(self, model: Any) -> Parts:
        """The parts of one set of weights of this model."""

    @abstractmethod
    def _score(
        self, parts: Parts, trajectories: Sequence[Text | Drawing], *, checkpointing: bool
    ) -> list[Tensor]:
        """float32 log-probs [D_i] of each trajectory under the weights of ``parts``, with gradient."""

    def _use_for_decoding(self, parts: Parts) -> None:
        """Decode with these weights from now on."""
        self.inference = parts

    @property
    def inference_module(self) -> Any:
        return self.inference.model

    def log_probs(self, trajectories: Sequence[Text | Drawing]) -> TrajectoryLogProbs:
        if not trajectories:
            raise ValueError("log_probs was given no trajectories.")
        return padded(self._score(self._training, trajectories, checkpointing=self.activation_checkpointing))

    def train_only(self, parts: Sequence[str]) -> list[tuple[str, nn.Parameter]]:
        known = self._training.by_name
        unknown = [part for part in parts if part not in known]
        if unknown:
            raise ValueError(
                f"The policy has no part {', '.join(unknown)}; its parts are {', '.join(known)}."
            )
        if self._lora is not None and LANGUAGE_MODEL not in parts:
            raise ValueError(
                "policy.lora adapts the language model, but policy.trainable does not name language_model"
            )
        self.module.requires_grad_(False)
        for part in parts:
            for module in known[part]:
                for name, parameter in module.named_parameters():
                    adapted = self._lora is not None and part == LANGUAGE_MODEL
                    parameter.requires_grad_(is_adapter(name) or not adapted)
        return self.trained()

    # Adapters

    def add_adapters(self, settings: LoRASettings, *, seed: int) -> None:
        assert self._inference_weights is None, "adapters come first, and once"
        layers = "|".join(settings.targets)
        decoder = re.escape(self._training.path(self._training.decoder))
        self._lora = lora_config(settings, rf"{decoder}\.layers\.\d+\.(self_attn|mlp)\.({layers})")
        self._inject(self._lora, seed)
        names = {
            name.rpartition(".")[0] for name, _ in self.module.named_modules() if name.endswith(".lora_A")
        }
        unused = [one for one in settings.targets if not any(name.endswith(f".{one}") for name in names)]
        if unused:
            raise ValueError(f"policy.lora.targets: the model's layers have no {', '.join(unused)}")
        if settings.adapter is not None:
            found, tensors = read_adapter(settings.adapter)
            for key, name in (("r", "rank"), ("lora_alpha", "alpha")):
                if found[key] != self._lora[key]:
                    raise ValueError(
                        f"policy.lora.{name} is {self._lora[key]}, but the adapter in {settings.adapter} has "
                        f"{found[key]}; use its value"
                    )
            load_adapter_tensors(self.module, tensors, settings.adapter)
        self.refresh_inference()

    def load_adapter(self, folder: Path) -> None:
        """Add an adapter's weights to those of the model. Raises ValueError if it does not fit."""
        config, tensors = read_adapter(folder)
        self._inject(config, 0)
        load_adapter_tensors(self.module, tensors, folder)
        self.merge_adapters()

    def merge_adapters(self) -> None:
        if self._inference_weights is not None:
            self.refresh_inference()
            self.module = self.inference.model
            self._training, self._inference_weights, self._lora = self.inference, None, None

    def save_adapter(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        assert self._lora is not None, "there is no adapter to save"
        base = str(Path(self.name).resolve()) if Path(self.name).is_dir() else self.name
        parts = [
            self._training.path(module)
            for name, modules in self._training.by_name.items()
            for module in modules
            if name != LANGUAGE_MODEL
        ]
        with atomic_folder(Path(folder)) as partial:
            save_adapter(weights, partial, self._lora, base=base, parts=parts)

    def _inject(self, config: Mapping[str, Any], seed: int) -> None:
        """Add adapters to the training weights; decoding gets weights of its own where they are."""
        whole = sharing_copy(self.module)
        inject_lora(self.module, config, seed=seed)
        adapted = [name for name, part in self.module.named_modules() if hasattr(part, "lora_A")]
        own_parameters(whole, [f"{name}.weight" for name in adapted])
        self._decode_with(whole)

    # Weights for decoding, reference, sharding

    def _decode_with(self, whole: Any) -> None:
        """Decode with the weights of this module from now on."""
        parts = self._parts(whole.eval())
        place_for_decoding(parts.decoder)
        self._inference_weights = InferenceWeights(whole, self.module)
        self._use_for_decoding(parts)

    def refresh_inference(self) -> None:
        if self._inference_weights is not None:
            self._inference_weights.refresh()

    def _check_current(self) -> None:
        if self._inference_weights is not None:
            self._inference_weights.check_current()

    def reference(self) -> ReferencePolicy[Text | Drawing]:
        model = sharing_copy(self.inference_module)
        for name, parameter in base_parameters(self.module):
            value = parameter
            if parameter.requires_grad:
                value = nn.Parameter(parameter.detach().clone(), requires_grad=False)
            set_parameter(model, name, value)
        return _FrozenWeights(self, self._parts(model), shared=self.inference_module)

    def shard(self, mesh: DeviceMesh, *, reshard_after_forward: bool) -> None:
        if self._inference_weights is None:
            self._decode_with(sharing_copy(self.module))
        _shard(self._training, mesh, self.inference_module, reshard_after_forward)
        self.refresh_inference()


class _FrozenWeights(ReferencePolicy[Any]):
    """Weights that stay as they are. shared: a model with which they share those that never trained."""

    def __init__(self, policy: LlamaPolicy[Any, Any, Any], parts: ModelParts, *, shared: nn.Module) -> None:
        self._policy, self._parts, self._shared = policy, parts, shared

    @torch.no_grad()
    def log_probs(self, trajectories: Sequence[Any]) -> Tensor:
        return padded(self._policy._score(self._parts, trajectories, checkpointing=False)).values

    def shard(self, mesh: DeviceMesh, *, reshard_after_forward: bool) -> None:
        _shard(self._parts, mesh, self._shared, reshard_after_forward)


def _shard(parts: ModelParts, mesh: DeviceMesh, whole: nn.Module, reshard_after_forward: bool) -> None:
    """Split the parameters over ``mesh``. whole: the model that decodes, with whole weights."""
    shard_module(
        parts.model,
        parts.layers.model.layers,
        mesh,
        methods=(REPLAY, PACKED_FORWARD),
        whole=whole,
        reshard_after_forward=reshard_after_forward,
    )

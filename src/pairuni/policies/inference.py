"""Whole weights for decoding, next to training weights that are sharded or have adapters.

Where nothing forbids it, decoding reads the training weights themselves. Otherwise a second module holds every weight
whole, in the compute type and always at the same addresses: captured CUDA graphs stay valid, and sampling needs no
communication. Weights that neither train nor have an adapter are shared by both modules.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from pairuni.policies.adapters import plain_parameters

Module = TypeVar("Module", bound=nn.Module)


def sharing_copy(module: Module) -> Module:
    """A copy of the module tree with the same parameters and buffers, not copies of them."""
    shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    return copy.deepcopy(module, dict(shared))


def own_parameters(module: nn.Module, names: Sequence[str]) -> None:
    """Replace these parameters by frozen copies, so that the module no longer shares them."""
    for name in names:
        value = module.get_parameter(name).detach().clone()
        set_parameter(module, name, nn.Parameter(value, requires_grad=False))


def set_parameter(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
    """Let the module use this parameter under a dotted name."""
    owner, _, attribute = name.rpartition(".")
    setattr(module.get_submodule(owner), attribute, parameter)


class InferenceWeights:
    """Keeps the module ``whole`` equal to the module ``training``, which has other parameters where it must."""

    def __init__(self, whole: nn.Module, training: nn.Module) -> None:
        self.whole = whole
        self._training = training
        self._copied: list[int] = []

    @torch.no_grad()
    def refresh(self) -> None:
        """Copy the current training weights, adapters merged; a collective where they are sharded."""
        sources: dict[nn.Module, list[tuple[str, Callable[[], Tensor]]]] = {}
        owners = _owners(self._training)
        for name, part, read in plain_parameters(self._training):
            sources.setdefault(owners[part], []).append((name, read))
        for unit, parameters in sources.items():
            with _gathered(unit):
                for name, read in parameters:
                    source, target = read(), self.whole.get_parameter(name)
                    if source is not target:
                        target.copy_(source)
        self._copied = self._versions()

    def check_current(self) -> None:
        """Assert that no training weight has changed since the last ``refresh``."""
        assert self._copied == self._versions(), "the policy has changed without refresh_inference"

    def _versions(self) -> list[int]:
        return [_local(one)._version for one in self._training.parameters()]


def _owners(module: nn.Module) -> dict[nn.Module, nn.Module]:
    """The innermost FSDP2 module around each part, which gathers its weights; without one, the module itself."""
    owners: dict[nn.Module, nn.Module] = {module: module}
    for path, part in module.named_modules():
        if path:
            around = owners[module.get_submodule(path.rpartition(".")[0])]
            owners[part] = part if _is_sharded(part) else around
    return owners


def _is_sharded(part: nn.Module) -> bool:
    return isinstance(part, FSDPModule)


@contextmanager
def _gathered(unit: nn.Module) -> Iterator[None]:
    if not isinstance(unit, FSDPModule):
        yield
        return
    unit.unshard()
    try:
        yield
    finally:
        unit.reshard()


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor

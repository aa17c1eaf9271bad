"""Training weights split over processes by FSDP2 (``torch.distributed.fsdp.fully_shard``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method


def shard_module(
    module: nn.Module,
    blocks: Sequence[nn.Module],
    mesh: DeviceMesh,
    *,
    methods: tuple[str, str],
    whole: nn.Module,
    reshard_after_forward: bool,
) -> None:
    """Split the weights of a module over the processes of a mesh [S], or of the last dimension of [R, S] (HSDP).

    Each block is gathered on its own; what is in no block, with the module. methods: names of the forward methods of
    the module, which returns a list of tensors, and of its blocks. whole: the module's copy for decoding; frozen
    parameters that it shares are not split. What trains is stored in float32 and computes in its former type;
    gradients are summed in float32, not averaged. A weight that no process uses in a backward pass has no gradient; one
    that a process uses must be used by all, as micro-batches with the same tasks on each process do. The module gets
    new parameters. Raises ValueError if a trained parameter is tied.
    """
    for parameter_owner, name, parameter in _trained(module):
        wide = nn.Parameter(parameter.detach().to(_wide(parameter.dtype)))
        setattr(parameter_owner, name, wide)
    shared = {id(parameter) for parameter in whole.parameters()}
    compute = next(whole.parameters()).dtype
    precision = MixedPrecisionPolicy(
        param_dtype=compute, reduce_dtype=_wide(compute), cast_forward_inputs=False
    )
    of_module, of_block = methods
    setattr(module, of_module, MethodType(_copying(getattr(module, of_module)), module))
    for unit in (*blocks, module):
        fully_shard(
            unit,
            mesh=mesh,
            mp_policy=precision,
            # the module's own weights are needed by its heads, right after its forward pass
            reshard_after_forward=reshard_after_forward and unit is not module,
            ignored_params={one for one in unit.parameters() if id(one) in shared},
        )
        register_fsdp_forward_method(unit, of_module if unit is module else of_block)
        assert isinstance(unit, FSDPModule)
        unit.set_gradient_divide_factor(1.0)
        unit.set_force_sum_reduction_for_comms(True)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _copying(compute: Callable[..., list[Tensor]]) -> Callable[..., list[Tensor]]:
    """A forward method that returns copies: FSDP2's hooks do not follow views."""

    def copying(module: nn.Module, *inputs: Any) -> list[Tensor]:
        return [one.clone() for one in compute(*inputs)]

    return copying


def _trained(module: nn.Module) -> list[tuple[nn.Module, str, nn.Parameter]]:
    """Module, attribute and parameter of everything that trains; a tied parameter raises ValueError."""
    found = [
        (part, name, parameter)
        for part in module.modules()
        for name, parameter in part.named_parameters(recurse=False)
        if parameter.requires_grad
    ]
    if len({id(parameter) for *_, parameter in found}) < len(found):
        raise ValueError(
            "the model ties its output layer to its embeddings, which cannot be sharded while it trains; choose "
            "distributed.strategy = 'replicate' or policy.lora"
        )
    return found

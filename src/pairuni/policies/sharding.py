"""Training weights split over processes by FSDP2 (``torch.distributed.fsdp.fully_shard``)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
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
    the module and of its blocks. whole: the module's copy for decoding; frozen parameters that it shares are not
    split. What trains is stored in float32 and computes in its former type; gradients are summed in float32, not
    averaged. The module gets new parameters.
    """
    for parameter_owner, name, parameter in _trained(module):
        wide = nn.Parameter(parameter.detach().float(), requires_grad=True)
        setattr(parameter_owner, name, wide)
    shared = {id(parameter) for parameter in whole.parameters()}
    precision = MixedPrecisionPolicy(
        param_dtype=next(whole.parameters()).dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    of_module, of_block = methods
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

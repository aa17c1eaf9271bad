"""Memory of an update's activations, and the micro-batches that fit in what is free."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pairuni.config import PairGRPOSettings
from pairuni.devices import free_memory
from pairuni.pairgrpo.batch import RolloutBatch
from pairuni.policies.policy import UnifiedPolicy
from pairuni.policies.replay import LOGITS_BUDGET
from pairuni.policies.trajectories import Trajectory
from pairuni.training.optimizer import NamedAdamW
from pairuni.training.shards import is_sharded, local

LEAST_TOKENS = 2048
"""Micro-batches are not smaller than this where ``pairgrpo.micro_batch_tokens`` is auto."""

CPU_ACTIVATIONS = 4 << 30
"""Bytes of a micro-batch's activations on a CPU where ``pairgrpo.micro_batch_tokens`` is auto."""

FREE_SHARE = 0.8
"""Share of a GPU's free memory for activations where ``pairgrpo.micro_batch_tokens`` is auto."""

LAYER = re.compile(r"\blayers\.(\d+)\.")
"""The index of a decoder layer in the name of a module or a parameter."""

_SHARED_INPUTS = {"k_proj": "q_proj", "v_proj": "q_proj", "up_proj": "gate_proj"}
"""Matrices of a layer that read the same input as another one."""


@dataclass(frozen=True)
class Adapter:
    """An adapter of one matrix [outputs, inputs] of a decoder layer."""

    inputs: int
    outputs: int
    rank: int

    @property
    def parameters(self) -> int:
        return self.rank * (self.inputs + self.outputs)


@dataclass(frozen=True, kw_only=True)
class Activations:
    """Bytes of a forward pass with gradient: ``fixed``, and so many a token."""

    fixed: int
    per_token: int

    def of(self, tokens: int) -> int:
        return self.fixed + tokens * self.per_token

    def tokens_in(self, size: float) -> int:
        """Tokens whose activations take at most ``size`` bytes, and at least ``LEAST_TOKENS``."""
        return max(LEAST_TOKENS, int((size - self.fixed) / self.per_token))


def activations_of(
    policy: UnifiedPolicy,
    dtype: torch.dtype,
    *,
    keys_per_token: float,
    adapters: Mapping[str, Adapter],
    head: int,
    checkpointing: bool,
) -> Activations:
    """What a replay keeps for its backward pass.

    keys_per_token: keys that attention reads, for each token; prompts are repeated for each of their rollouts.
    adapters: those of a decoder layer by the name of the matrix; empty if its weights train. head: parameters of the
    largest matrix that trains. checkpointing: each layer keeps its input, and one at a time the rest.

    fixed is three chunks of float32 logits, and the gradient of the head in the making.
    """
    text = policy.module.config.get_text_config()  # type: ignore[operator, union-attr]
    size, hidden = dtype.itemsize, text.hidden_size
    layer = _layer_bytes(text, size, keys_per_token, adapters)
    # of a layer's backward pass: gradients of two of the MLP's activations and of the residual
    passing = size * (2 * text.intermediate_size + hidden)
    kept = text.num_hidden_layers * (size * hidden if checkpointing else layer)
    ends = 5 * size * hidden  # embeddings, last norm, inputs and features of the heads
    gradient = head * (4 + 2 * size) if size < 4 else 4 * head
    return Activations(
        fixed=3 * max(LOGITS_BUDGET.values()) + gradient,
        per_token=int(kept + ends + passing + (layer if checkpointing else 0)),
    )


def key_width(text: Any) -> int:
    """Numbers in the keys of one token in one layer of a language model with this configuration."""
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    return int(heads * (text.hidden_size // text.num_attention_heads))


def _layer_bytes(text: Any, size: int, keys_per_token: float, adapters: Mapping[str, Adapter]) -> float:
    """Bytes a token that one decoder layer keeps.

    Attention keeps queries, keys, values and its result; norms their input, and on a CPU the normalised one; the MLP
    gate, activated gate and up. A matrix that trains keeps its input. One with an adapter keeps it in float32: a copy
    for each matrix if weights are narrower.
    """
    keys = key_width(text)
    hidden, wide = text.hidden_size, text.intermediate_size
    always = size * (6 * hidden + 2 * keys_per_token * keys + 3 * wide)
    if not adapters:
        return always + size * (3 * hidden + wide)
    inputs = {
        _SHARED_INPUTS.get(name, name) if size >= 4 else name: one.inputs for name, one in adapters.items()
    }
    return always + 4 * sum(inputs.values()) + 4 * sum(one.rank for one in adapters.values())


def with_micro_batches(
    settings: PairGRPOSettings, policy: UnifiedPolicy, batch: RolloutBatch, optimizer: NamedAdamW | None
) -> PairGRPOSettings:
    """The settings with a number of ``micro_batch_tokens`` if they say auto; see ``micro_batch_budget``.

    optimizer: the one that will update the weights, if any.
    """
    if settings.micro_batch_tokens != "auto":
        return settings
    tasks = [rollouts.trajectories for rollouts in batch.rollouts.values()]
    budget = micro_batch_budget(policy, tasks, moments=optimizer is None or bool(optimizer.state()))
    return settings.model_copy(update={"micro_batch_tokens": budget})


def micro_batch_budget(policy: UnifiedPolicy, tasks: Sequence[Sequence[Trajectory]], *, moments: bool) -> int:
    """Tokens of a micro-batch whose activations fit beside what else an update allocates, at least ``LEAST_TOKENS``.

    They take a share of a GPU's free memory, so the number may differ between processes. On a CPU they take
    ``CPU_ACTIVATIONS``, so that a run splits its updates in the same way on every machine. tasks: the trajectories of
    each task that will be replayed; moments: whether AdamW's moments exist.
    """
    parameters = list(policy.module.parameters())
    # adapters and sharded weights are float32 beside frozen ones in the type of the activations
    dtype = min((one.dtype for one in parameters if one.is_floating_point()), key=lambda one: one.itemsize)
    matrices = [one.numel() for one in parameters if one.requires_grad and one.ndim >= 2]
    costs = [policy.replay_cost(ones) for ones in tasks if ones]
    activations = activations_of(
        policy,
        dtype,
        keys_per_token=max((cost.keys / cost.tokens for cost in costs), default=1.0),
        adapters=_adapters_in(policy.module),
        head=max(matrices, default=0),
        checkpointing=policy.activation_checkpointing,
    )
    if policy.device.type != "cuda":
        return activations.tokens_in(CPU_ACTIVATIONS)
    pending = pending_bytes(policy.module, dtype, moments=moments)
    return activations.tokens_in(FREE_SHARE * (free_memory(policy.device) - pending))


def pending_bytes(module: nn.Module, dtype: torch.dtype, *, moments: bool) -> int:
    """Bytes that an update allocates besides activations: gradients, gathered weights, and moments not yet there."""
    each = 4 if moments else 12
    total = 0
    whole: Counter[str] = Counter()
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        held = local(parameter)
        low = held.dtype.itemsize if held.dtype.itemsize < 4 else 0
        total += held.numel() * (each + low)
        if is_sharded(parameter):
            layer = LAYER.search(name)
            whole[layer[1] if layer else ""] += parameter.numel()
    # weights, gradients and their float32 copies, outside the layers and of two layers at a time
    gathered = whole.pop("", 0) + 2 * max(whole.values(), default=0)
    return total + gathered * (2 * dtype.itemsize + 4)


def _adapters_in(module: nn.Module) -> dict[str, Adapter]:
    """The adapters of peft in the first decoder layer that has some."""
    found: dict[str, dict[str, Adapter]] = {}
    for name, one in module.named_modules():
        layer = LAYER.search(f"{name}.")
        if layer is not None and hasattr(one, "lora_A") and hasattr(one, "in_features"):
            rank = max((matrix.out_features for matrix in one.lora_A.values()), default=0)
            own = found.setdefault(layer[1], {})
            own[name.rpartition(".")[2]] = Adapter(one.in_features, one.out_features, rank)
    return next(iter(found.values()), {})

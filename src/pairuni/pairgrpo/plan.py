"""Estimates for a training run without training: parameters, memory, tokens and time per step."""

from __future__ import annotations

import math
import os
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch

from pairuni.config import RunSettings
from pairuni.distributed.shares import shards_of
from pairuni.pairgrpo.activations import FREE_SHARE, Activations, activations_of, key_width
from pairuni.pairgrpo.cards import BANDWIDTH, COMPUTE, LINK, NODE, USABLE, Card
from pairuni.pairgrpo.rollout import Rewards
from pairuni.pairgrpo.sizes import (
    ParameterCounts,
    count_parameters,
    rollout_cost,
    sharded_state,
    whole_state,
)
from pairuni.pairgrpo.turns import TURNS
from pairuni.policies.costs import RolloutCost
from pairuni.policies.decoding.chunks import KEPT_SHARE
from pairuni.policies.decoding.loop import MAX_ROWS
from pairuni.policies.policy import UnifiedPolicy
from pairuni.records import TASKS
from pairuni.rewards.reward import models_of
from pairuni.rewards.weighted import terms_of

StrategyName = Literal["replicate", "shard"]

ERROR = 0.3
"""Largest error of the memory estimate against measured peaks on a CPU (tests/pairgrpo/test_plan.py)."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Counts of parameters and tokens, and memory in bytes, of one process of a run.

    trained: parameters that train, adapters included. inference_weights: copies for decoding. gathered: weights and
    gradients of sharded layers that are whole during an update. rollout_cache: keys and values; kept_cache: those that
    stay in memory during the update.

    sampled_tokens: the most that one step can sample. replayed_tokens: those that one update's forward and backward
    passes read, shared prompts and unconditional branches included; micro_batch_tokens: those of one pass, at least
    those of one trajectory.
    decoded_bytes: what a step's rollouts read at most; rollout_operations: those of rollouts that compute complete
    sequences again and again; operations: those of its updates; communicated: bytes that the process sends in a step.
    """

    parameters: int
    trained: int
    weights: int
    inference_weights: int = 0
    gradients: int
    optimizer: int
    reference: int
    gathered: int = 0
    activations: int
    rollout_cache: int
    kept_cache: int = 0
    sampled_tokens: int
    replayed_tokens: int
    micro_batch_tokens: int = 0
    decoded_bytes: float
    rollout_operations: float = 0.0
    operations: float
    communicated: float = 0.0

    @property
    def peak(self) -> int:
        """Rollouts and updates alternate: the larger of them counts."""
        kept = self.weights + self.inference_weights + self.optimizer + self.reference
        update = self.gradients + self.gathered + self.activations + self.kept_cache
        return kept + max(update, self.rollout_cache)

    def fits(self, card: Card, reward_models: int) -> bool:
        """Whether the card can hold the run and ``reward_models`` bytes of rewards' weights."""
        return self.peak + reward_models <= card.usable

    def rollout_seconds(self, card: Card, dtype: torch.dtype) -> float:
        """Seconds of rollouts: reading weights, keys and values at a share of the bandwidth, and arithmetic."""
        read = self.decoded_bytes / (BANDWIDTH * card.bandwidth)
        return read + self.rollout_operations / _rate(card, dtype)

    def update_seconds(self, card: Card, dtype: torch.dtype) -> float:
        """Seconds of a step's updates: their operations at a share of the matrix rate."""
        return self.operations / _rate(card, dtype)

    def communication_seconds(self, card: Card, world_size: int) -> float:
        """Seconds of a step's collectives, as if nothing ran beside them."""
        if not self.communicated:
            return 0.0
        return self.communicated / (LINK * (card.link if world_size <= NODE else card.network))

    def step_seconds(self, card: Card, dtype: torch.dtype, world_size: int = 1) -> float:
        """Seconds of a step on the card, rewards not counted."""
        return (
            self.rollout_seconds(card, dtype)
            + self.update_seconds(card, dtype)
            + self.communication_seconds(card, world_size)
        )


def plan_run(
    settings: RunSettings,
    policy: UnifiedPolicy,
    dtype: torch.dtype,
    *,
    world_size: int = 1,
    strategy: StrategyName = "replicate",
    memory: float | None = None,
    images: int = 1,
) -> Plan:
    """Estimate a run of ``settings`` on ``world_size`` devices, for the process with the most pairs.

    policy: its skeleton suffices. dtype: that of weights and activations. memory: bytes of a device for tensors, apart
    from the rewards' models. Micro-batches of ``auto`` take what is left of it; without it, as few tokens as possible.
    images: the most that a question shows.

    Low-precision weights have a float32 master, a float32 gradient sum and AdamW's two moments (16 bytes a trained
    parameter besides the weight and its gradient); float32 weights have the gradient and the moments (12). Adapters
    are float32, beside a merged copy of their matrices for decoding. Sharded training splits float32 weights,
    gradients and moments, and holds a whole copy of the weights for decoding, and in the update the gathered layers.
    For activations see ``activations_of``. Where steps train the tasks in turn, tokens and memory are those of the
    larger step, and what takes time is the mean. Time is that of rollouts without further attempts
    (``rollout.resample``). Raises ValueError if ``shard_size`` does not divide ``world_size``.
    """
    counts = count_parameters(settings, policy)
    plans = []
    for tasks in TURNS[settings.pairgrpo.tasks]:
        cost = rollout_cost(settings, policy, tasks, images)
        plans.append(_plan_step(settings, policy, dtype, counts, cost, world_size, strategy, memory))
    return plans[0] if len(plans) == 1 else _of_turns(plans)


def _of_turns(plans: Sequence[Plan]) -> Plan:
    """The plan of steps that alternate: the largest numbers, and the mean of those that stand for time."""
    timed = {"decoded_bytes", "rollout_operations", "operations", "communicated"}
    numbers: dict[str, Any] = {}
    for name in (one.name for one in fields(Plan)):
        values = [getattr(plan, name) for plan in plans]
        numbers[name] = statistics.fmean(values) if name in timed else max(values)
    return Plan(**numbers)


def _plan_step(
    settings: RunSettings,
    policy: UnifiedPolicy,
    dtype: torch.dtype,
    counts: ParameterCounts,
    cost: RolloutCost,
    world_size: int,
    strategy: StrategyName,
    memory: float | None,
) -> Plan:
    """The plan of a step whose pairs have this cost; see ``plan_run``."""
    grpo = settings.pairgrpo
    shards = shards_of(world_size, settings.distributed.shard_size) if strategy == "shard" else 1
    pairs = -(-grpo.pairs_per_batch * grpo.batches_per_step // world_size)
    together = min(grpo.pairs_per_batch, pairs)
    batches = -(-pairs // together)
    replayed = pairs * cost.replayed
    cache = together * cost.cached * cache_bytes_per_token(policy, dtype)
    state = (
        sharded_state(settings, counts, dtype, shards)
        if strategy == "shard"
        else whole_state(settings, counts, dtype)
    )
    # rollouts adapt to the free memory: they decode in parts, and free what the update needs
    parts, kept_cache = -(-together * cost.rows // MAX_ROWS), 0
    if memory is not None:
        parts = max(parts, math.ceil(cache / max(FREE_SHARE * (memory - state.kept), 1.0)))
        kept_cache = cache // parts if cache // parts <= KEPT_SHARE * memory else 0
    activations = activations_of(
        policy,
        dtype,
        keys_per_token=cost.keys / cost.replayed,
        adapters=counts.adapters,
        head=counts.head,
        checkpointing=settings.policy.activation_checkpointing,
    )
    budget = _pass_tokens(settings, activations, memory, state.bytes + kept_cache) or replayed
    passed = min(replayed, max(budget, cost.largest))
    # forward, and backward to inputs and to weights, which adapters spare; recomputation is one more
    passes = (2 if settings.policy.lora else 3) + settings.policy.activation_checkpointing
    return Plan(
        parameters=counts.parameters + counts.adapted_parameters,
        trained=counts.trained + counts.adapted_parameters,
        weights=state.weights,
        inference_weights=state.inference_weights,
        gradients=state.gradients,
        optimizer=state.optimizer,
        reference=state.reference,
        gathered=state.gathered,
        activations=activations.of(passed),
        rollout_cache=cache if memory is None else cache // parts,
        kept_cache=kept_cache,
        sampled_tokens=pairs * cost.sampled * (1 + settings.rollout.resample),
        replayed_tokens=replayed,
        micro_batch_tokens=passed,
        decoded_bytes=batches * cost.steps * (parts * counts.parameters * dtype.itemsize + cache / 2),
        rollout_operations=2.0 * counts.parameters * pairs * cost.computed,
        operations=2.0 * counts.parameters * replayed * (grpo.updates_per_step * passes + (grpo.beta > 0)),
        communicated=0.0
        if world_size == 1
        else _communicated(settings, counts, dtype, world_size, shards, micro_batches=-(-replayed // passed)),
    )


def choose_strategy(
    settings: RunSettings,
    policy: UnifiedPolicy,
    world_size: int,
    memory: float,
    *,
    dtype: torch.dtype | None = None,
    reward_models: int = 0,
    images: int = 1,
) -> tuple[StrategyName, str]:
    """The strategy of a run on ``world_size`` devices of ``memory`` bytes each, and the reason as a clause.

    policy: its skeleton suffices. dtype: by default that of the policy's weights. reward_models: bytes of the
    rewards' weights on each device. images: see ``plan_run``. ``auto`` replicates where that fits, because it
    communicates least. All processes need the same answer: let one of them decide.
    """
    chosen = settings.distributed.strategy
    if world_size == 1:
        return "replicate", "there is one process"
    if chosen != "auto":
        return chosen, f"distributed.strategy is {chosen}"
    dtype = dtype or next(policy.module.parameters()).dtype
    usable = USABLE * memory - reward_models
    replicated = plan_run(settings, policy, dtype, world_size=world_size, memory=usable, images=images)
    whole, limit = size_in_words(replicated.peak + reward_models), size_in_words(USABLE * memory)
    if replicated.peak <= usable:
        return "replicate", f"everything fits on each device, {whole} of {limit}"
    sharded = plan_run(
        settings, policy, dtype, world_size=world_size, strategy="shard", memory=usable, images=images
    )
    parts = size_in_words(sharded.peak + reward_models)
    if sharded.peak <= usable:
        return "shard", f"replicate would need {whole}, more than the {limit} of a device"
    return "shard", f"neither fits in the {limit} of a device: replicate needs {whole}, shard {parts}"


def disk_bytes(settings: RunSettings, plan: Plan, dtype: torch.dtype) -> tuple[int, int]:
    """Bytes of a checkpoint, float32 weights and AdamW's moments of what trains, and of the trained model.

    The latter is a whole model in ``dtype``, or an adapter in float32 where nothing else trains.
    """
    adapter = settings.policy.lora is not None
    return 12 * plan.trained, 4 * plan.trained if adapter else dtype.itemsize * plan.parameters


def device_memory(device: torch.device, processes: int = 1) -> float:
    """Bytes of memory of a GPU, or of this machine for each of the ``processes`` on it."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / processes


def reward_model_bytes(rewards: Rewards) -> Counter[str]:
    """Bytes of the weights of the rewards' models, by device."""
    models = {
        model for task in TASKS for term in terms_of(rewards.task(task)) for model in models_of(term.reward)
    }
    sizes: Counter[str] = Counter()
    for model in models:
        for tensor in (*model.parameters(), *model.buffers()):
            sizes[str(tensor.device)] += tensor.nbytes
    return sizes


def size_in_words(size: float) -> str:
    """Bytes in words: 12 MiB, 26.4 GiB."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def _pass_tokens(
    settings: RunSettings, activations: Activations, memory: float | None, held: int
) -> int | None:
    """``micro_batch_tokens``; that of auto from what ``held`` bytes leave of the memory."""
    limit = settings.pairgrpo.micro_batch_tokens
    if limit != "auto":
        return limit
    return activations.tokens_in(0.0 if memory is None else FREE_SHARE * (memory - held))


def _communicated(
    settings: RunSettings,
    counts: ParameterCounts,
    dtype: torch.dtype,
    world_size: int,
    shards: int,
    *,
    micro_batches: int,
) -> float:
    """Bytes that a process sends in a step, by ring algorithms.

    Replicas reduce float32 gradients once an update. Shards gather weights before the forward and, if they were
    freed, before the backward pass of each micro-batch, reduce its gradients, and gather once for decoding.
    """
    grpo, gradients = settings.pairgrpo, 4.0 * counts.training
    replicas = world_size // shards
    sent = grpo.updates_per_step * 2 * (replicas - 1) / replicas * gradients / shards
    if shards == 1:
        return sent
    gather = (shards - 1) / shards * counts.split * dtype.itemsize
    reduce = (shards - 1) / shards * gradients
    gathers = 2 if settings.distributed.reshard_after_forward else 1
    passes = grpo.updates_per_step * micro_batches
    return sent + passes * (gathers * gather + reduce) + gather * (1 + (grpo.beta > 0) * micro_batches)


def _rate(card: Card, dtype: torch.dtype) -> float:
    """Operations a second that matrix products are assumed to reach."""
    return COMPUTE * (card.float32 if dtype.itemsize >= 4 else card.bfloat16)


def cache_bytes_per_token(policy: UnifiedPolicy, dtype: torch.dtype) -> int:
    """Keys and values of one token in all layers."""
    text = policy.module.config.get_text_config()  # type: ignore[operator, union-attr]
    return int(2 * text.num_hidden_layers * key_width(text) * dtype.itemsize)

"""Estimates for a training run without training: parameters, memory, tokens and time per step."""

from __future__ import annotations

import math
import os
from collections import Counter
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from pairuni.config import LoRASettings, RunSettings
from pairuni.pairgrpo.activations import FREE_SHARE, LAYER, Activations, Adapter, activations_of
from pairuni.pairgrpo.cards import BANDWIDTH, COMPUTE, LINK, NODE, USABLE, Card
from pairuni.pairgrpo.rollout import Rewards
from pairuni.policies.decoding.chunks import KEPT_SHARE
from pairuni.policies.decoding.loop import MAX_ROWS
from pairuni.policies.policy import UnifiedPolicy
from pairuni.records import TASKS
from pairuni.rewards.reward import models_of
from pairuni.rewards.weighted import terms_of

StrategyName = Literal["replicate", "shard"]

PROMPT_TOKENS = 64
"""Assumed tokens of a prompt or a question, besides those of its image."""

ERROR = 0.3
"""Largest error of the memory estimate against measured peaks on a CPU (tests/pairgrpo/test_plan.py)."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Counts of parameters and tokens, and memory in bytes, of one process of a run.

    trained: parameters that train, adapters included. inference_weights: copies for decoding. gathered: weights and
    gradients of sharded layers that are whole during an update. rollout_cache: keys and values; kept_cache: those that
    stay in memory during the update.

    sampled_tokens: the most that one step can sample. replayed_tokens: those that one update's forward and backward
    passes read, shared prompts and unconditional branches included; micro_batch_tokens: those of one pass.
    decoded_bytes: what a step's rollouts read at most; operations: those of its updates; communicated: bytes that the
    process sends in a step.
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

    def rollout_seconds(self, card: Card) -> float:
        """Seconds of a step's rollouts: reading weights, keys and values at a share of the bandwidth."""
        return self.decoded_bytes / (BANDWIDTH * card.bandwidth)

    def update_seconds(self, card: Card, dtype: torch.dtype) -> float:
        """Seconds of a step's updates: their operations at a share of the matrix rate."""
        rate = card.float32 if dtype.itemsize >= 4 else card.bfloat16
        return self.operations / (COMPUTE * rate)

    def communication_seconds(self, card: Card, world_size: int) -> float:
        """Seconds of a step's collectives, as if nothing ran beside them."""
        if not self.communicated:
            return 0.0
        return self.communicated / (LINK * (card.link if world_size <= NODE else card.network))

    def step_seconds(self, card: Card, dtype: torch.dtype, world_size: int = 1) -> float:
        """Seconds of a step on the card, rewards not counted."""
        return (
            self.rollout_seconds(card)
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
) -> Plan:
    """Estimate a run of ``settings`` on ``world_size`` devices, for the process with the most pairs.

    policy: its skeleton suffices. dtype: that of weights and activations. memory: bytes of a device for tensors, apart
    from the rewards' models. Micro-batches of ``auto`` take what is left of it; without it, as few tokens as possible.

    Low-precision weights have a float32 master, a float32 gradient sum and AdamW's two moments (16 bytes a trained
    parameter besides the weight and its gradient); float32 weights have the gradient and the moments (12). Adapters
    are float32, beside a merged copy of their matrices for decoding. Sharded training splits float32 weights,
    gradients and moments, and holds a whole copy of the weights for decoding, and in the update the gathered layers.
    For activations see ``activations_of``. Raises ValueError if ``shard_size`` does not divide ``world_size``.
    """
    grpo, rollout = settings.pairgrpo, settings.rollout
    counts, tokens = _count(settings, policy), _tokens_of(settings, policy)
    shards = _shards(settings, world_size) if strategy == "shard" else 1
    pairs = -(-grpo.pairs_per_batch * grpo.batches_per_step // world_size)
    together = min(grpo.pairs_per_batch, pairs)
    batches = -(-pairs // together)
    replayed = pairs * tokens.replayed
    cache = together * tokens.cached * _cache_bytes_per_token(policy, dtype)
    state = (
        _sharded(settings, counts, dtype, shards) if strategy == "shard" else _whole(settings, counts, dtype)
    )
    # rollouts adapt to the free memory: they decode in parts, and free what the update needs
    steps = max(rollout.max_new_tokens, policy.image_tokens)
    rows = together * (rollout.understanding + tokens.branches * rollout.generation)
    parts, kept_cache = -(-rows // MAX_ROWS), 0
    if memory is not None:
        parts = max(parts, math.ceil(cache / max(FREE_SHARE * (memory - state.kept), 1.0)))
        kept_cache = cache // parts if cache // parts <= KEPT_SHARE * memory else 0
    activations = activations_of(
        policy,
        dtype,
        keys_per_token=tokens.keys / tokens.replayed,
        adapters=counts.adapters,
        head=counts.head,
        checkpointing=settings.policy.activation_checkpointing,
    )
    passed = min(replayed, _pass_tokens(settings, activations, memory, state.bytes + kept_cache) or replayed)
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
        sampled_tokens=pairs * tokens.sampled,
        replayed_tokens=replayed,
        micro_batch_tokens=passed,
        decoded_bytes=batches * steps * (parts * counts.parameters * dtype.itemsize + cache / 2),
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
) -> tuple[StrategyName, str]:
    """The strategy of a run on ``world_size`` devices of ``memory`` bytes each, and the reason as a clause.

    policy: its skeleton suffices. dtype: by default that of the policy's weights. reward_models: bytes of the
    rewards' weights on each device. ``auto`` replicates where that fits, because it communicates least. All processes
    need the same answer: let one of them decide.
    """
    chosen = settings.distributed.strategy
    if world_size == 1:
        return "replicate", "there is one process"
    if chosen != "auto":
        return chosen, f"distributed.strategy is {chosen}"
    dtype = dtype or next(policy.module.parameters()).dtype
    usable = USABLE * memory - reward_models
    replicated = plan_run(settings, policy, dtype, world_size=world_size, memory=usable)
    whole, limit = size_in_words(replicated.peak + reward_models), size_in_words(USABLE * memory)
    if replicated.peak <= usable:
        return "replicate", f"everything fits on each device, {whole} of {limit}"
    sharded = plan_run(settings, policy, dtype, world_size=world_size, strategy="shard", memory=usable)
    parts = size_in_words(sharded.peak + reward_models)
    if sharded.peak <= usable:
        return "shard", f"replicate would need {whole}, more than the {limit} of a device"
    return "shard", f"neither fits in the {limit} of a device: replicate needs {whole}, shard {parts}"


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


@dataclass(frozen=True, kw_only=True)
class _Tokens:
    """Tokens of one pair, prompts once for all their rollouts.

    cached: those whose keys and values a rollout stores. replayed: those that an update reads. keys: those that
    attention reads in an update, prompts for each of their rollouts. branches: of a decoded image.
    """

    sampled: int
    cached: int
    replayed: int
    keys: int
    branches: int


def _tokens_of(settings: RunSettings, policy: UnifiedPolicy) -> _Tokens:
    rollout = settings.rollout
    answers = rollout.understanding * rollout.max_new_tokens
    images = rollout.generation * policy.image_tokens
    question = policy.image_tokens + PROMPT_TOKENS
    text, image = question + answers, PROMPT_TOKENS + images
    decoded = 2 if rollout.guidance != 1.0 else 1
    scored = decoded if rollout.branch == "guided" else 1
    replayed = text + scored * image
    repeated = rollout.understanding * question + scored * rollout.generation * PROMPT_TOKENS
    return _Tokens(
        sampled=answers + images,
        cached=text + decoded * image,
        replayed=replayed,
        keys=replayed + repeated,
        branches=decoded,
    )


@dataclass(frozen=True, kw_only=True)
class _Counts:
    """Numbers of parameters, those of adapters apart.

    trained: those that train. merged: frozen matrices with an adapter, which sharding splits too. layer, trained_layer:
    what is split, and what trains, in a decoder layer, adapters included. head: the largest matrix that trains.
    adapters: those of a decoder layer by the name of the matrix.
    """

    parameters: int
    trained: int
    merged: int
    layers: int
    layer: int
    trained_layer: int
    head: int
    adapters: dict[str, Adapter]

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


def _count(settings: RunSettings, policy: UnifiedPolicy) -> _Counts:
    lora, parts = settings.policy.lora, settings.policy.trainable
    layers = policy.module.config.get_text_config().num_hidden_layers  # type: ignore[operator, union-attr]
    trained = _parameters_of(policy, [part for part in parts if lora is None or part != "language_model"])
    language = {} if lora is None else _parameters_of(policy, ["language_model"])
    adapters = {} if lora is None else _adapters_for(lora, policy.module, language)
    added = sum(one.parameters for one in adapters.values())
    adapted = sum(one.inputs * one.outputs for one in adapters.values())
    in_layer = sum(size for name, size in trained.items() if LAYER.search(name)) // layers
    matrices = {name for name, parameter in policy.module.named_parameters() if parameter.ndim >= 2}
    return _Counts(
        parameters=sum(parameter.numel() for parameter in policy.module.parameters()),
        trained=sum(trained.values()),
        merged=layers * adapted,
        layers=layers,
        layer=in_layer + added + adapted,
        trained_layer=in_layer + added,
        head=max((size for name, size in trained.items() if name in matrices), default=0),
        adapters=adapters,
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
class _State:
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


def _whole(settings: RunSettings, counts: _Counts, dtype: torch.dtype) -> _State:
    """The state of one device, or of each replica."""
    size, adapters = dtype.itemsize, counts.adapted_parameters
    low = size < 4
    return _State(
        weights=counts.parameters * size + adapters * 4,
        inference_weights=counts.merged * size,
        gradients=counts.trained * (size + 4 if low else 4) + adapters * 4,
        optimizer=counts.trained * (12 if low else 8) + adapters * 8,
        reference=counts.trained * size if settings.pairgrpo.beta > 0 else 0,
        gathered=0,
    )


def _sharded(settings: RunSettings, counts: _Counts, dtype: torch.dtype, shards: int) -> _State:
    """The state of each of ``shards`` processes that hold one copy together.

    The group of everything outside of the layers stays gathered during an update; two layers at a time, or all, are
    gathered beside it. Gradients are whole until they are reduced in float32, for the group at the end of the pass.
    """
    size, training = dtype.itemsize, counts.training
    frozen = counts.parameters - counts.trained - counts.merged
    root = counts.split - counts.layers * counts.layer
    trained_root = training - counts.layers * counts.trained_layer
    two_layers = min(2, counts.layers) * counts.layer
    shown = root + two_layers if settings.distributed.reshard_after_forward else counts.split
    whole_gradients = trained_root + 2 * counts.trained_layer
    return _State(
        weights=-(-(training * 4 + counts.merged * size) // shards) + frozen * size,
        inference_weights=(counts.trained + counts.merged) * size,
        gradients=-(-training * 4 // shards),
        optimizer=-(-training * 8 // shards),
        reference=-(-(counts.trained + counts.merged) * size // shards) if settings.pairgrpo.beta > 0 else 0,
        gathered=shown * size + whole_gradients * size + 4 * max(trained_root, 2 * counts.trained_layer),
    )


def _shards(settings: RunSettings, world_size: int) -> int:
    size = settings.distributed.shard_size or world_size
    if world_size % size:
        raise ValueError(
            f"distributed.shard_size is {size}, but must divide the number of processes, {world_size}"
        )
    return size


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
    counts: _Counts,
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


def _cache_bytes_per_token(policy: UnifiedPolicy, dtype: torch.dtype) -> int:
    """Keys and values of one token in all layers."""
    text = policy.module.config.get_text_config()  # type: ignore[operator, union-attr]
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    head_width = text.hidden_size // text.num_attention_heads
    return int(2 * text.num_hidden_layers * heads * head_width * dtype.itemsize)

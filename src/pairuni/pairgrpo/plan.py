"""Estimates for a training run without training: parameters, memory, tokens and time per step."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch

from pairuni.config import RunSettings
from pairuni.pairgrpo.rollout import Rewards
from pairuni.policies.decoding.loop import MAX_ROWS
from pairuni.policies.policy import UnifiedPolicy
from pairuni.policies.replay import LOGITS_BUDGET
from pairuni.records import TASKS
from pairuni.rewards.reward import models_of
from pairuni.rewards.weighted import terms_of

PROMPT_TOKENS = 64
"""Assumed tokens of a prompt or a question, besides those of its image."""

USABLE = 0.9
"""Share of a GPU's memory for tensors; the rest goes to the driver, kernels and fragmentation."""
COMPUTE, BANDWIDTH = 0.35, 0.5
"""Assumed shares of a GPU's peak rates that matrix products and reading weights reach."""


@dataclass(frozen=True)
class Card:
    """A GPU by its data sheet. memory: bytes; bandwidth: bytes a second; bfloat16, float32: operations a second."""

    name: str
    memory: float
    bandwidth: float
    bfloat16: float
    float32: float


CARDS = (
    Card("24 GB (RTX 4090)", 24e9, 1.01e12, 165e12, 83e12),
    Card("40 GB (A100)", 40e9, 1.56e12, 312e12, 19.5e12),
    Card("48 GB (L40S)", 48e9, 0.86e12, 362e12, 92e12),
    Card("80 GB (H100)", 80e9, 3.35e12, 989e12, 67e12),
    Card("141 GB (H200)", 141e9, 4.8e12, 989e12, 67e12),
)


@dataclass(frozen=True)
class Plan:
    """Counts of parameters and tokens, memory in bytes.

    sampled_tokens: the most that one step can sample. replayed_tokens: those that one update's forward and backward
    passes read, shared prompts and unconditional branches included. decoded_bytes: what a step's rollouts read at
    most; operations: those of its updates.
    """

    parameters: int
    trained: int
    weights: int
    gradients: int
    optimizer: int
    reference: int
    activations: int
    rollout_cache: int
    sampled_tokens: int
    replayed_tokens: int
    decoded_bytes: float
    operations: float

    @property
    def peak(self) -> int:
        """Rollouts and updates alternate: the larger of cache and activations counts."""
        kept = self.weights + self.gradients + self.optimizer + self.reference
        return kept + max(self.activations, self.rollout_cache)

    def fits(self, card: Card, reward_models: int) -> bool:
        """Whether the card can hold the run and ``reward_models`` bytes of rewards' weights."""
        return self.peak + reward_models <= USABLE * card.memory

    def step_seconds(self, card: Card, dtype: torch.dtype) -> float:
        """Seconds of a step on the card, rewards not counted."""
        rate = card.float32 if dtype.itemsize >= 4 else card.bfloat16
        return self.decoded_bytes / (BANDWIDTH * card.bandwidth) + self.operations / (COMPUTE * rate)


@dataclass(frozen=True)
class _Tokens:
    """Tokens of one pair: prompts once for all their rollouts, images without their unconditional branch."""

    text: int
    image: int
    sampled: int


def _tokens_of(settings: RunSettings, policy: UnifiedPolicy) -> _Tokens:
    rollout = settings.rollout
    answers = rollout.understanding * rollout.max_new_tokens
    images = rollout.generation * policy.image_tokens
    return _Tokens(
        text=policy.image_tokens + PROMPT_TOKENS + answers,
        image=PROMPT_TOKENS + images,
        sampled=answers + images,
    )


def plan_run(settings: RunSettings, policy: UnifiedPolicy, dtype: torch.dtype) -> Plan:
    """Estimate a run of ``settings`` whose weights are held in ``dtype``.

    Low-precision weights have a float32 master, a float32 gradient sum and AdamW's two moments (16 bytes a trained
    parameter besides the weight and its gradient); float32 weights have the gradient and the moments (12). For
    activations see ``_activation_bytes``. Rough: within some ten per cent for Llama decoders whose attention does not
    store its scores.
    """
    grpo, rollout = settings.pairgrpo, settings.rollout
    trained = sum(parameter.numel() for _, parameter in policy.train_only(settings.policy.trainable))
    parameters = sum(parameter.numel() for parameter in policy.module.parameters())
    bytes_each, low = dtype.itemsize, dtype.itemsize < 4
    pairs, tokens = grpo.pairs_per_batch * grpo.batches_per_step, _tokens_of(settings, policy)
    decoded_branches = 2 if rollout.guidance != 1.0 else 1
    scored_branches = decoded_branches if rollout.branch == "guided" else 1
    replayed = pairs * (tokens.text + scored_branches * tokens.image)
    cached = grpo.pairs_per_batch * (tokens.text + decoded_branches * tokens.image)
    cache = cached * _cache_bytes_per_token(policy, dtype)
    steps = max(rollout.max_new_tokens, policy.image_tokens)
    rows = grpo.pairs_per_batch * (rollout.understanding + decoded_branches * rollout.generation)
    weight_reads = -(-rows // MAX_ROWS) * grpo.batches_per_step * steps
    # forward and backward are three passes, recomputation is a fourth
    passes = grpo.updates_per_step * (4 if settings.policy.activation_checkpointing else 3) + (grpo.beta > 0)
    return Plan(
        parameters=parameters,
        trained=trained,
        weights=parameters * bytes_each,
        gradients=trained * (bytes_each + 4 if low else 4),
        optimizer=trained * (12 if low else 8),
        reference=trained * bytes_each if grpo.beta > 0 else 0,
        activations=_activation_bytes(settings, policy, dtype, replayed),
        rollout_cache=cache,
        sampled_tokens=pairs * tokens.sampled,
        replayed_tokens=replayed,
        decoded_bytes=weight_reads * (parameters * bytes_each) + grpo.batches_per_step * steps * cache / 2,
        operations=2.0 * parameters * replayed * passes,
    )


def _activation_bytes(settings: RunSettings, policy: UnifiedPolicy, dtype: torch.dtype, replayed: int) -> int:
    """Activations of a micro-batch's forward pass, and chunks of float32 logits.

    A decoder layer keeps about 10 hidden and 4 MLP widths a token; with activation checkpointing each layer keeps one
    hidden width, and one layer at a time the rest.
    """
    text = policy.module.config.get_text_config()  # type: ignore[operator, union-attr]
    tokens = min(settings.pairgrpo.micro_batch_tokens or replayed, replayed)
    layer = (10 * text.hidden_size + 4 * text.intermediate_size) * dtype.itemsize
    kept = text.num_hidden_layers * layer
    if settings.policy.activation_checkpointing:
        kept = text.num_hidden_layers * text.hidden_size * dtype.itemsize + layer
    return tokens * kept + 3 * max(LOGITS_BUDGET.values())


def _cache_bytes_per_token(policy: UnifiedPolicy, dtype: torch.dtype) -> int:
    """Keys and values of one token in all layers."""
    text = policy.module.config.get_text_config()  # type: ignore[operator, union-attr]
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    head_width = text.hidden_size // text.num_attention_heads
    return int(2 * text.num_hidden_layers * heads * head_width * dtype.itemsize)


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

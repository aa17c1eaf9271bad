"""What a training run would take: parameters, memory, tokens a step. Says so without training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from pairuni.config import RunSettings
from pairuni.pairgrpo.rollout import TASKS, Rewards
from pairuni.policies.decoding.loop import MAX_ROWS
from pairuni.policies.policy import UnifiedPolicy
from pairuni.policies.replay import LOGITS_BUDGET
from pairuni.rewards.reward import models_of
from pairuni.rewards.weighted import terms_of

PROMPT_TOKENS = 64
"""Assumed words of a prompt or a question, in tokens, besides the image's."""


@dataclass(frozen=True)
class Card:
    """A GPU of which a plan says whether it suffices. memory: bytes; bandwidth: bytes a second; rates: operations a
    second of bfloat16 and of float32 products, as its maker gives them."""

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
USABLE = 0.9
"""Of a card's memory; the rest is taken by the driver, kernels and fragmentation."""
RATE, BANDWIDTH = 0.35, 0.5
"""Of what the makers give, assumed to be reached by products of matrices and by reading weights."""


@dataclass(frozen=True)
class Plan:
    """Counts of parameters and tokens, memory in bytes.

    sampled_tokens: most that one step can sample; replayed_tokens: those that one update's forward and
    backward passes read, shared prompts and unconditional branches included. decoded_bytes: what the rollouts of a step
    read at most; operations: those of its updates.
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
        """Rollouts and updates take turns: the larger of cache and activations counts."""
        kept = self.weights + self.gradients + self.optimizer + self.reference
        return kept + max(self.activations, self.rollout_cache)


def plan_run(settings: RunSettings, policy: UnifiedPolicy, dtype: torch.dtype) -> Plan:
    """Estimate a run of ``settings`` whose weights are held in ``dtype``.

    Low-precision weights get a float32 master, gradient sum and AdamW's two moments (16 bytes a trained
    parameter), float32 weights the gradient and the moments (12). Activations: one forward pass of a
    micro-batch, a decoder layer keeping about 10 hidden and 4 MLP widths a token, with activation
    checkpointing one hidden width and a single layer's rest, plus chunks of float32 logits. Rough: within some
    ten per cent for decoders of the Llama kind, attention computed without stored scores.
    """
    grpo, rollout = settings.pairgrpo, settings.rollout
    text = policy.module.config.get_text_config()  # type: ignore[operator, union-attr]
    trained = sum(parameter.numel() for _, parameter in policy.train_only(settings.policy.trainable))
    parameters = sum(parameter.numel() for parameter in policy.module.parameters())
    bytes_each, low = dtype.itemsize, dtype.itemsize < 4

    guided = rollout.guidance != 1.0
    branches = 2 if guided and rollout.branch == "guided" else 1
    question = policy.image_tokens + PROMPT_TOKENS
    # a prompt is computed once for all its rollouts, in the update as in the rollout
    asked = question + rollout.understanding * rollout.max_new_tokens
    drawn = PROMPT_TOKENS + rollout.generation * policy.image_tokens
    pairs = grpo.pairs_per_batch * grpo.batches_per_step
    replayed = pairs * (asked + branches * drawn)
    tokens = min(grpo.micro_batch_tokens or replayed, replayed)
    layer = (10 * text.hidden_size + 4 * text.intermediate_size) * bytes_each
    if settings.policy.activation_checkpointing:
        kept = text.num_hidden_layers * text.hidden_size * bytes_each + layer
    else:
        kept = text.num_hidden_layers * layer
    activations = tokens * kept + 3 * max(LOGITS_BUDGET.values())
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    head_width = text.hidden_size // text.num_attention_heads
    cached = 2 * text.num_hidden_layers * heads * head_width * bytes_each
    held = grpo.pairs_per_batch * (asked + (2 if guided else 1) * drawn)
    steps = max(rollout.max_new_tokens, policy.image_tokens)
    rows = grpo.pairs_per_batch * (rollout.understanding + (2 if guided else 1) * rollout.generation)
    batches = -(-rows // MAX_ROWS) * grpo.batches_per_step
    passes = grpo.updates_per_step * (4 if settings.policy.activation_checkpointing else 3) + (grpo.beta > 0)
    return Plan(
        parameters=parameters,
        trained=trained,
        weights=parameters * bytes_each,
        gradients=trained * (bytes_each + 4 if low else 4),
        optimizer=trained * (12 if low else 8),
        reference=trained * bytes_each if grpo.beta > 0 else 0,
        activations=activations,
        rollout_cache=held * cached,
        sampled_tokens=pairs
        * (rollout.understanding * rollout.max_new_tokens + rollout.generation * policy.image_tokens),
        replayed_tokens=replayed,
        decoded_bytes=batches * steps * (parameters * bytes_each)
        + grpo.batches_per_step * steps * held * cached / 2,
        operations=2.0 * parameters * replayed * passes,
    )


def describe_cards(plan: Plan, dtype: torch.dtype, reward_models: int) -> str:
    """Which cards hold the run, rewards' models included, and about how long a step takes there, without rewards."""
    needed = plan.peak + reward_models
    rows = []
    for card in CARDS:
        if needed > USABLE * card.memory:
            rows.append(f"{card.name}: does not fit")
            continue
        rate = card.float32 if dtype.itemsize >= 4 else card.bfloat16
        seconds = plan.decoded_bytes / (BANDWIDTH * card.bandwidth) + plan.operations / (RATE * rate)
        rows.append(f"{card.name}: fits, about {_seconds(seconds)} a step without rewards")
    names = ["on one GPU, a guess", *[""] * (len(rows) - 1)]
    return "\n".join(f"{name:<20}{row}" for name, row in zip(names, rows, strict=True))


def _seconds(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 100 else f"{seconds / 60:.0f} minutes"


def describe(plan: Plan) -> str:
    """A plan as lines of text."""
    rows = [
        ("parameters", f"{plan.parameters:,}"),
        ("  that train", f"{plan.trained:,}"),
        ("memory, estimated", memory(plan.peak)),
        ("  weights", memory(plan.weights)),
        ("  gradients", memory(plan.gradients)),
        ("  optimizer", memory(plan.optimizer)),
        *([("  reference", memory(plan.reference))] if plan.reference else []),
        ("  activations", f"{memory(plan.activations)} (in the update)"),
        ("  keys and values", f"{memory(plan.rollout_cache)} (in the rollout)"),
        ("tokens a step", f"at most {plan.sampled_tokens:,} sampled"),
        ("", f"at most {plan.replayed_tokens:,} replayed in each update"),
    ]
    return "\n".join(f"{name:<20}{value}" for name, value in rows)


def sizes_of_models(rewards: Rewards) -> Counter[str]:
    """Bytes of the weights of the rewards' models by device; nothing for rewards that say to hold no model."""
    held = {
        model for task in TASKS for term in terms_of(rewards.task(task)) for model in models_of(term.reward)
    }
    sizes: Counter[str] = Counter()
    for tensor in (one for model in held for one in (*model.parameters(), *model.buffers())):
        sizes[str(tensor.device)] += tensor.nbytes
    return sizes


def describe_models(sizes: Mapping[str, int]) -> str:
    """``sizes_of_models`` as lines of text."""
    rows = [f"{memory(size)} of weights on {device}" for device, size in sizes.items()]
    return "\n".join(f"{'reward models':<20}{row}" for row in rows)


def memory(size: int) -> str:
    """Bytes in words: 12 MiB, 26.4 GiB."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"

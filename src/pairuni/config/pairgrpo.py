"""Settings of the update: the objective, its optimizer, and how long a run trains."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from pairuni.config.base import Settings

PairWeight = Literal["sqrt", "linear", "none"]
TokenReduction = Literal["sequence-mean", "token-mean", "sequence-sum"]
TaskOrder = Literal["joint", "alternating"]
Truncated = Literal["keep", "mask"]
Schedule = Literal["constant", "linear", "cosine"]

STEPS = 1200
"""Steps of a run that sets neither steps nor epochs (paper: at most 1200)."""


class PairGRPOSettings(Settings):
    """The update (paper section 2.2)."""

    steps: int = Field(default=STEPS, ge=1)
    """Number of rollout-and-update steps (paper: at most 1200)."""
    epochs: float | None = Field(default=None, gt=0, le=1e9)
    """Passes over the training pairs, in place of steps; the last step is the one that completes them."""
    pairs_per_batch: int = Field(default=2, ge=1)
    """Pairs sampled together, over all processes (paper: 16 on 8 GPUs, 2 on each)."""
    batches_per_step: int = Field(default=1, ge=1)
    """Gradient accumulation: batches of pairs per update, over all processes (paper: not stated)."""
    micro_batch_tokens: Annotated[int, Field(ge=1)] | Literal["auto"] | None = None
    """Tokens per forward pass of the update on each device, or auto, from its free memory; by default unlimited. Does
    not change the gradient."""
    updates_per_step: int = Field(default=1, ge=1)
    """Optimizer updates on each batch of rollouts; 1 is on-policy (paper: not stated)."""
    learning_rate: float = Field(default=1e-6, gt=0)
    """AdamW's learning rate after warm-up (paper: 1e-6)."""
    schedule: Schedule = "constant"
    """The learning rate after warm-up: constant, or falling towards 0 until the last step, in a line or along a
    cosine (paper: not stated)."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the learning rate rises linearly from 0 (paper: not stated)."""
    warmup_share: float = Field(default=0.0, ge=0, lt=1)
    """Warm-up as a share of all steps, in place of warmup_steps."""
    min_learning_rate_share: float = Field(default=0.0, ge=0, lt=1)
    """With linear or cosine: the share of learning_rate towards which it falls."""
    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW's decoupled weight decay (paper: not stated)."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Global L2 norm to which gradients are clipped (paper: not stated)."""
    pair_weight: PairWeight = "sqrt"
    """w_p of a retrieved pair, from its similarity (paper: sqrt; the others are its ablations)."""
    clip_low: float = Field(default=0.2, gt=0, lt=1)
    """The ratio is clipped below 1 - clip_low (paper: not stated; 0.2 is customary)."""
    clip_high: float = Field(default=0.2, gt=0)
    """The ratio is clipped above 1 + clip_high (paper: not stated; 0.2 is customary)."""
    beta: float = Field(default=0.0, ge=0)
    """Weight of the KL to the frozen reference (paper: 0)."""
    token_reduction: TokenReduction = "sequence-mean"
    """How token losses are reduced to one loss (paper: not stated; the mean of sequence means is customary)."""
    truncated: Truncated = "keep"
    """Answers cut off at rollout.max_new_tokens: keep trains on them; mask gives them no loss, while their rewards
    still count in their groups (paper: not stated)."""
    understanding_weight: float = Field(default=1.0, ge=0)
    """Factor of the understanding loss (paper: 1)."""
    generation_weight: float = Field(default=1.0, ge=0)
    """Factor of the generation loss (paper: 1)."""
    std_eps: float = Field(default=1e-4, ge=0)
    """Added to the group's standard deviation (paper: not stated; 1e-4 is customary)."""
    tasks: TaskOrder = "joint"
    """joint: each step trains both tasks. alternating: odd steps train understanding, even steps generation, on the
    same pairs as the step before, so that twice as many steps use the pairs and rollouts of joint training (paper:
    joint)."""
    unified_reward: float | None = Field(default=None, ge=0)
    """w of CoRL's unified reward: rollout k of both tasks has the advantage of R_gen,k + w R_und,k (ULM-R1: 0.8); by
    default each task has its own advantages."""

    @field_validator("micro_batch_tokens", mode="before")
    @classmethod
    def _number_or_auto(cls, value: Any) -> Any:
        """One sentence, where the types of a union would give one each."""
        if value in (None, "auto") or (type(value) is int and value >= 1):
            return value
        raise ValueError("must be a whole number of at least 1, or auto")

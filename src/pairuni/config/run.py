"""Settings of a training run. Where the paper (arXiv:2510.25682) gives a value, the default is that value."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from pairuni.config.base import Settings, UserPath
from pairuni.config.pairgrpo import STEPS, PairGRPOSettings
from pairuni.config.policy import AnyPolicySettings
from pairuni.config.rewards import RewardSettings

Pairing = Literal[
    "pairug", "random", "unpaired", "aligned", "retrieved", "understanding-only", "generation-only"
]
LogProbBranchName = Literal["guided", "conditional"]
TrackerName = Literal["tensorboard", "wandb", "trackio"]


class DataSettings(Settings):
    """The pairs, and how their two sides are combined."""

    pairs: UserPath
    """PairUG file: JSONL or parquet."""
    pairing: Pairing = "pairug"
    """Which pairs to train on (paper: pairug; the others are its ablations)."""
    budget: int | None = Field(default=None, ge=1)
    """Number of pairs to train on, sampled by seed; by default all (paper: all 16,320)."""


class RolloutSettings(Settings):
    """How trajectories are sampled."""

    understanding: int = Field(default=8, ge=2)
    """K_u, answers per question (paper: 8 for Janus-Pro-1B, 4 for 7B, 2 for Lumina-DiMOO)."""
    generation: int = Field(default=8, ge=2)
    """K_g, images per prompt (paper: 8 for Janus-Pro-1B, 4 for 7B, 2 for Lumina-DiMOO)."""
    temperature: float = Field(default=1.0, gt=0)
    """Sampling temperature of both tasks (paper: 1.0)."""
    top_k: int = Field(default=0, ge=0)
    """Sample each token, of both tasks, from this many most probable ones; 0 is all (paper: not stated)."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Sample each token from the fewest most probable ones whose probabilities add up to this; 1 is all. Log-probs
    are those of the distribution that is left (paper: not stated)."""
    guidance: float = Field(default=5.0, ge=1)
    """Classifier-free guidance weight of image sampling; 1 turns guidance off (paper: 5)."""
    branch: LogProbBranchName = "guided"
    """Image log-probs from the guided logits, which sampled, or from the conditional logits (paper: not stated)."""
    resample: int = Field(default=0, ge=0)
    """Further attempts at a group whose rewards are all equal, each with new noise; the last one stays. After DAPO's
    dynamic sampling (paper: not stated)."""
    max_new_tokens: int = Field(default=512, ge=1)
    """Maximum answer length in tokens (paper: not stated)."""


class EvaluationSettings(Settings):
    """Held-out evaluation during training."""

    every: int = Field(default=0, ge=0)
    """Steps between evaluations, logged in metrics.jsonl as eval/<task>, that of the initial policy as step 0;
    0 disables them."""
    task: Literal["pairs", "digits", "relations"] = "pairs"
    """Evaluation data: held-out pairs, scored by the run's rewards; held-out scenes of the digits world; or the same
    with open questions only, also about relations."""
    pairs: UserPath | None = None
    """PairUG file of held-out pairs; by default, ``items`` pairs of data.pairs are held out."""
    items: int = Field(default=120, ge=1)
    """Held-out items per task; with ``pairs``, the maximum number taken from the file."""
    most_excluded: float = Field(default=0.5, gt=0, lt=1)
    """Maximum share of the training pairs that may be excluded because their image or prompt is held out."""


class CheckpointSettings(Settings):
    """Checkpoints, from which a run can resume."""

    every: int = Field(default=100, ge=0)
    """Steps between checkpoints; 0 writes one only at the end."""
    keep: int = Field(default=2, ge=1)
    """Number of most recent checkpoints to keep."""
    keep_best: int = Field(default=0, ge=0)
    """Number of further checkpoints to keep, those with the best mean held-out score; RUN@best is the model of the
    best one."""


class DistributedSettings(Settings):
    """How a run started by torchrun uses its processes; without effect in a single process."""

    strategy: Literal["auto", "replicate", "shard"] = "auto"
    """replicate: the whole training state on each device. shard: weights, gradients and optimizer split over devices
    (FSDP2). auto: replicate where it fits in a device's memory."""
    reshard_after_forward: bool = True
    """With shard: free a layer's gathered weights after its forward pass; false keeps them until the backward pass."""
    shard_size: int | None = Field(default=None, ge=1)
    """With shard: number of processes that hold one copy of the state; by default all. A divisor of their number."""
    timeout: float = Field(default=1800.0, gt=0)
    """Seconds that processes wait for each other before the run ends, naming those that did not come."""


class LoggingSettings(Settings):
    """What a run logs besides metrics.jsonl."""

    samples_every: int = Field(default=10, ge=0)
    """Steps between saved samples (images and answers); 0 saves none."""
    gradient_agreement: bool = False
    """Log the cosine between the understanding and the generation gradient of each step, of all trained parameters and
    by layer, estimated from a sample of their gradients. Changes the update only by rounding."""
    to: list[TrackerName] = Field(default=[])
    """Trackers that also receive the metrics and the saved samples: tensorboard, wandb, trackio."""
    project: str = Field(default="pairuni", min_length=1)
    """Project of the run in wandb and trackio."""


class RunSettings(Settings):
    """A training run."""

    seed: int = Field(default=0, ge=0)
    """Seed of data order, rollouts and initialisation (paper: not stated)."""
    policy: AnyPolicySettings
    data: DataSettings
    rollout: RolloutSettings = RolloutSettings()
    reward: RewardSettings = RewardSettings()
    pairgrpo: PairGRPOSettings = PairGRPOSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    logging: LoggingSettings = LoggingSettings()
    distributed: DistributedSettings = DistributedSettings()

    @model_validator(mode="after")
    def _settings_agree(self) -> RunSettings:
        grpo = self.pairgrpo
        if grpo.epochs is not None and grpo.steps != STEPS:
            raise ValueError(
                f"pairgrpo.steps is {grpo.steps} and pairgrpo.epochs is {grpo.epochs:g}, but only one of them can set "
                f"the length of a run; remove one, or set pairgrpo.steps to its default, {STEPS}"
            )
        if grpo.warmup_steps and grpo.warmup_share:
            raise ValueError(
                f"pairgrpo.warmup_steps is {grpo.warmup_steps} and pairgrpo.warmup_share is {grpo.warmup_share:g}, but "
                "only one of them can set the warm-up; set the other to 0"
            )
        if self.checkpoint.keep_best and not self.evaluation.every:
            raise ValueError(
                f"checkpoint.keep_best is {self.checkpoint.keep_best}, but without held-out scores no checkpoint is "
                "the best; set evaluation.every"
            )
        if grpo.min_learning_rate_share and grpo.schedule == "constant":
            raise ValueError(
                "pairgrpo.min_learning_rate_share is where a falling learning rate ends, but pairgrpo.schedule is "
                "constant; set it to linear or cosine"
            )
        return self

    @model_validator(mode="after")
    def _variants_fit(self) -> RunSettings:
        grpo = self.pairgrpo
        if grpo.understanding_weight == grpo.generation_weight == 0.0:
            raise ValueError(
                "pairgrpo.understanding_weight and pairgrpo.generation_weight are both 0, so nothing trains; set at "
                "least one above 0"
            )
        if grpo.tasks == "alternating" and 0.0 in (grpo.understanding_weight, grpo.generation_weight):
            raise ValueError(
                "pairgrpo.tasks is alternating, which trains each task in steps of its own, so "
                "pairgrpo.understanding_weight and pairgrpo.generation_weight must both be above 0"
            )
        if grpo.unified_reward is None:
            return self
        if grpo.tasks == "alternating":
            raise ValueError(
                "pairgrpo.unified_reward needs the rollouts of both tasks in a step, so pairgrpo.tasks cannot be "
                "alternating; set it to joint"
            )
        if self.rollout.understanding != self.rollout.generation:
            raise ValueError(
                "pairgrpo.unified_reward adds the rewards of answer k and image k, so there must be as many answers "
                f"as images: rollout.understanding is {self.rollout.understanding}, rollout.generation "
                f"{self.rollout.generation}"
            )
        if self.reward.normalise == "each":
            raise ValueError(
                "pairgrpo.unified_reward normalises the sum of both rewards, so reward.normalise cannot be each; set "
                "it to sum"
            )
        return self

"""One PairGRPO update of a policy on a batch of rollouts (arXiv:2510.25682, section 2.2)."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pairuni.config import PairGRPOSettings
from pairuni.pairgrpo.advantages import groups_without_spread
from pairuni.pairgrpo.objective import (
    LossTerms,
    clip_fractions,
    importance_ratio,
    k3_kl,
    pairgrpo_loss,
    trajectory_coefficients,
    weighted_token_sum,
)
from pairuni.pairgrpo.rollout import TASKS, RolloutBatch, Task, TaskRollouts
from pairuni.policies.policy import Trajectory, UnifiedPolicy, replay_tokens
from pairuni.training.optimizer import NamedAdamW

logger = logging.getLogger("pairuni")


class GradientError(RuntimeError):
    """The gradient of a step is not finite; names the step and the first parameters."""


class FrozenReference:
    """The policy as it was when this was made: a copy of the trained weights, put in place when asked.

    Frozen weights are shared with the policy, so the copy costs only what trains.
    """

    def __init__(self, policy: UnifiedPolicy, parameters: Sequence[tuple[str, nn.Parameter]]) -> None:
        self._policy = policy
        self._parameters = [parameter for _, parameter in parameters]
        self._weights = [parameter.detach().clone() for parameter in self._parameters]

    @torch.no_grad()
    def log_probs(self, trajectories: Sequence[Trajectory]) -> Tensor:
        """[N, T] log-probs of the reference policy, without gradient."""
        with self._in_place():
            return self._policy.log_probs(trajectories).values

    @contextmanager
    def _in_place(self) -> Iterator[None]:
        current = [parameter.data for parameter in self._parameters]
        try:
            for parameter, weights in zip(self._parameters, self._weights, strict=True):
                parameter.data = weights
            yield
        finally:
            for parameter, weights in zip(self._parameters, current, strict=True):
                parameter.data = weights


@dataclass(frozen=True, kw_only=True)
class TaskShare:
    """The rows of a micro-batch that are of one task; advantages and coefficients [N], pair weights included."""

    task: Task
    rows: slice
    advantages: Tensor
    coefficients: Tensor
    weight: float


@dataclass(kw_only=True)
class MicroBatch:
    """Some trajectories of both tasks, replayed in one forward pass.

    old_log_probs is filled by the first replay, before any weight has moved. It is the same forward pass, in
    the same geometry, that later updates differentiate, so the ratio before the first update is exactly 1;
    the log-probs of incremental decoding would leave a tight clip range in bf16.
    """

    trajectories: Sequence[Trajectory]
    shares: Sequence[TaskShare]
    reference_log_probs: Tensor | None = None
    old_log_probs: Tensor | None = None

    def loss(
        self,
        policy: UnifiedPolicy,
        settings: PairGRPOSettings,
        statistics: Mapping[Task, TaskStatistics] | None = None,
    ) -> Tensor:
        """This micro-batch's share of the step's loss, a scalar, task weights included."""
        replay = policy.log_probs(self.trajectories)
        first = self.old_log_probs is None
        if self.old_log_probs is None:
            self.old_log_probs = replay.values.detach()
        total = replay.values.new_zeros(())
        for share in self.shares:
            own = (share.rows, slice(max(len(one.tokens) for one in self.trajectories[share.rows])))
            log_probs = replay.values[own]
            reference = self.reference_log_probs
            terms = LossTerms(
                log_probs=log_probs,
                old_log_probs=self.old_log_probs[own],
                mask=replay.mask[own],
                advantages=share.advantages.to(log_probs),
                coefficients=share.coefficients.to(log_probs),
                reference_log_probs=None if reference is None else reference[own],
            )
            loss = pairgrpo_loss(
                terms, clip_low=settings.clip_low, clip_high=settings.clip_high, beta=settings.beta
            )
            total = total + share.weight * loss
            if statistics is not None:
                with torch.no_grad():
                    statistics[share.task].add(terms, loss, settings)
                    if first:
                        statistics[share.task].add_mismatch(self.trajectories[share.rows], terms)
        return total


def micro_batches(batch: RolloutBatch, settings: PairGRPOSettings, tasks: Sequence[Task]) -> list[MicroBatch]:
    """Cut the tasks' trajectories into micro-batches; the normalisers are those of the whole batch.

    The two groups of a pair stay together, and the trajectories of a group do, which share their prompt,
    unless that exceeds ``micro_batch_tokens``. Without a KL term a trajectory of advantage zero has no
    gradient, so it is not replayed.
    """
    advantages = {task: batch.weighted_advantages(task) for task in tasks}
    taught: list[list[tuple[Task, int]]] = []
    for pair in range(len(batch.pairs)):
        for task in tasks:
            size = batch.task(task).group_size
            group = range(pair * size, (pair + 1) * size)
            taught.append([(task, row) for row in group if settings.beta > 0.0 or advantages[task][row] != 0])
    coefficients = {
        task: trajectory_coefficients(batch.task(task).lengths, settings.token_reduction) for task in tasks
    }
    weights = _task_weights(settings)
    cut = []
    for part in _within_tokens(taught, batch, settings.micro_batch_tokens):
        trajectories: list[Trajectory] = []
        shares: list[TaskShare] = []
        for task in tasks:
            rows = [row for owner, row in part if owner == task]
            if rows:
                start = len(trajectories)
                trajectories += [batch.task(task).trajectories[row] for row in rows]
                shares.append(
                    TaskShare(
                        task=task,
                        rows=slice(start, len(trajectories)),
                        advantages=advantages[task][rows],
                        coefficients=coefficients[task][rows],
                        weight=weights[task],
                    )
                )
        cut.append(MicroBatch(trajectories=trajectories, shares=shares))
    return cut


def _within_tokens(
    groups: Sequence[Sequence[tuple[Task, int]]], batch: RolloutBatch, budget: int | None
) -> list[list[tuple[Task, int]]]:
    """Groups in parts of at most ``budget`` tokens; a group is cut only where it exceeds that alone."""

    def fits(rows: Sequence[tuple[Task, int]]) -> bool:
        return budget is None or replay_tokens([batch.task(t).trajectories[row] for t, row in rows]) <= budget

    parts: list[list[tuple[Task, int]]] = [[]]
    for group in groups:
        pieces = [list(group)] if fits(group) else [[row] for row in group]
        for piece in pieces:
            if parts[-1] and not fits([*parts[-1], *piece]):
                parts.append([])
            parts[-1] += piece
    return [part for part in parts if part]


def update(
    policy: UnifiedPolicy,
    batch: RolloutBatch,
    optimizer: NamedAdamW,
    settings: PairGRPOSettings,
    *,
    step: int,
    learning_rate: float,
    reference: FrozenReference | None = None,
) -> dict[str, float]:
    """Update the policy ``updates_per_step`` times on one batch of rollouts; returns the step's metrics.

    Metrics carry TRL's names where TRL has one, prefixed with the task; those without prefix are the plain
    mean of the tasks. reference: needed when beta > 0. Raises GradientError when the gradient is not finite,
    before any weight moves by it.
    """
    warn_if_nothing_to_learn(batch, step)
    weights = _task_weights(settings)
    cut = micro_batches(batch, settings, [task for task in TASKS if weights[task] > 0.0])
    if settings.beta > 0.0:
        assert reference is not None, "beta > 0 needs a frozen reference"
        for part in cut:
            part.reference_log_probs = reference.log_probs(part.trajectories)
    statistics = {task: TaskStatistics() for task in TASKS}
    norms = []
    for _ in range(settings.updates_per_step):
        optimizer.zero_grad()
        for part in cut:
            part.loss(policy, settings, statistics).backward()
            optimizer.collect_gradients()
        norms.append(_checked_norm(optimizer, settings.max_grad_norm, step))
        optimizer.step(learning_rate)
    optimizer.zero_grad()
    metrics = {
        f"{task}/{name}": value
        for task in TASKS
        for name, value in (
            reward_metrics(batch.task(task)) | statistics[task].metrics(settings.updates_per_step)
        ).items()
    }
    return (
        _without_prefix(metrics)
        | metrics
        | {
            "loss": sum(weights[task] * metrics.get(f"{task}/loss", 0.0) for task in TASKS),
            "grad_norm": sum(norms) / len(norms),
            "learning_rate": learning_rate,
            "pair_weight": float(batch.weights.mean()),
        }
    )


def _task_weights(settings: PairGRPOSettings) -> dict[Task, float]:
    return {"understanding": settings.understanding_weight, "generation": settings.generation_weight}


def warn_if_nothing_to_learn(batch: RolloutBatch, step: int) -> None:
    """A dead reward looks like a healthy run: say so when no group of either task has spread."""
    if not any(bool(batch.task(task).advantages.any()) for task in TASKS):
        logger.warning(
            "step %d: every advantage of both tasks is zero: within each group all rewards are equal", step
        )


def _checked_norm(optimizer: NamedAdamW, max_norm: float, step: int) -> float:
    total = optimizer.gradient_norm()
    norm = float(total)
    if not math.isfinite(norm):
        bad = [name for name, gradient in optimizer.gradients().items() if not gradient.isfinite().all()]
        shown = ", ".join(bad[:3]) + (f" and {len(bad) - 3} more" if len(bad) > 3 else "")
        raise GradientError(f"step {step}: the gradient is not finite (norm {norm}), first in {shown}")
    if norm == 0.0:
        logger.warning("step %d: the gradient is exactly zero: this step teaches nothing", step)
    optimizer.clip_gradients(max_norm, total)
    return norm


def reward_metrics(rollouts: TaskRollouts) -> dict[str, float]:
    """What the rollouts of one task say: rewards, those of a sum's terms, spread, lengths."""
    lengths = rollouts.lengths.double()
    metrics = {
        "reward": float(rollouts.rewards.mean()),
        "reward_std": float(rollouts.rewards.std(dim=-1).mean()),
        "frac_reward_zero_std": float(groups_without_spread(rollouts.rewards).double().mean()),
        "completions/mean_length": float(lengths.mean()),
        "completions/min_length": float(lengths.min()),
        "completions/max_length": float(lengths.max()),
    }
    if len(rollouts.terms) > 1:
        metrics |= {f"reward/{name}": float(scores.mean()) for name, scores in rollouts.terms.items()}
    # an image always has all its tokens and is never cut short: truncation is a notion of text alone
    unfinished = [not t.finished for t in rollouts.trajectories if t.modality == "text"]
    if unfinished:
        metrics["completions/clipped_ratio"] = sum(unfinished) / len(unfinished)
    return metrics


@dataclass
class TaskStatistics:
    """Sums over the tokens that a step's updates saw; kept as tensors so that the device need not wait."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    largest_mismatch: Tensor | None = None

    def _add(self, name: str, value: Tensor) -> None:
        value = value.detach().double()
        self.sums[name] = self.sums[name] + value if name in self.sums else value

    def add(self, terms: LossTerms, loss: Tensor, settings: PairGRPOSettings) -> None:
        ratio = importance_ratio(terms.log_probs, terms.old_log_probs, terms.mask)
        low, high = clip_fractions(ratio, terms.advantages, terms.mask, settings.clip_low, settings.clip_high)
        self._add("tokens", terms.mask.sum())
        self._add("low", low)
        self._add("high", high)
        self._add("loss", loss)
        if terms.reference_log_probs is not None:
            kl = k3_kl(terms.log_probs, terms.reference_log_probs)
            self._add("kl", weighted_token_sum(kl, terms.mask, torch.ones_like(terms.coefficients)))

    def add_mismatch(self, trajectories: Sequence[Trajectory], terms: LossTerms) -> None:
        """|log-prob at sampling - log-prob on replay| of what is replayed: the cost of incremental decoding."""
        sampled = nn.utils.rnn.pad_sequence([t.log_probs for t in trajectories], batch_first=True)
        difference = (sampled.to(terms.log_probs) - terms.log_probs).abs()
        difference = torch.where(terms.mask.bool(), difference, 0.0)
        self._add("mismatch", difference.sum())
        self._add("replayed", terms.mask.sum())
        largest = difference.max()
        known = self.largest_mismatch
        self.largest_mismatch = largest if known is None else torch.maximum(known, largest)

    def metrics(self, updates: int) -> dict[str, float]:
        """Means over tokens and updates; empty when the task's weight is zero."""
        if not self.sums or self.largest_mismatch is None:
            return {}
        sums = {name: float(value) for name, value in self.sums.items()}
        low, high = sums["low"] / sums["tokens"], sums["high"] / sums["tokens"]
        metrics = {
            "loss": sums["loss"] / updates,
            "clip_ratio/low_mean": low,
            "clip_ratio/high_mean": high,
            "clip_ratio/region_mean": low + high,
            "sampling/sampling_logp_difference/mean": sums["mismatch"] / sums["replayed"],
            "sampling/sampling_logp_difference/max": float(self.largest_mismatch),
        }
        if "kl" in sums:
            metrics["kl"] = sums["kl"] / sums["tokens"]
        return metrics


_SHARED = ("reward", "reward_std", "frac_reward_zero_std", "kl", "completions/mean_length")
_CLIPS = ("clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean")


def _without_prefix(metrics: dict[str, float]) -> dict[str, float]:
    joint = {}
    for name in (*_SHARED, *_CLIPS):
        values = [metrics[f"{task}/{name}"] for task in TASKS if f"{task}/{name}" in metrics]
        if values:
            joint[name] = sum(values) / len(values)
    return joint

"""One PairGRPO update of a policy on a batch of rollouts (arXiv:2510.25682, section 2.2)."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Sequence

from pairuni.config import PairGRPOSettings
from pairuni.distributed.strategy import Replicate, Strategy
from pairuni.distributed.watch import named_ranks
from pairuni.distributed.world import World
from pairuni.pairgrpo.activations import with_micro_batches
from pairuni.pairgrpo.batch import RolloutBatch, StepNumbers
from pairuni.pairgrpo.metrics import LossStatistics, mean_of_tasks, reward_metrics, unified_metrics
from pairuni.pairgrpo.micro_batches import micro_batches, task_weights
from pairuni.pairgrpo.online_agreement import OnlineAgreement
from pairuni.policies.policy import ReferencePolicy, UnifiedPolicy
from pairuni.records import TASKS
from pairuni.training.optimizer import NamedAdamW

logger = logging.getLogger("pairuni")


class GradientError(RuntimeError):
    """The gradient of a step is not finite; the message names the step and the first parameters."""


def update(
    policy: UnifiedPolicy,
    batch: RolloutBatch,
    optimizer: NamedAdamW,
    settings: PairGRPOSettings,
    *,
    step: int,
    learning_rate: float,
    reference: ReferencePolicy | None = None,
    strategy: Strategy | None = None,
    numbers: StepNumbers | None = None,
    agreement: OnlineAgreement | None = None,
) -> dict[str, float]:
    """Update the policy ``updates_per_step`` times on one batch of rollouts; the metrics of its tasks.

    reference: needed if beta > 0. strategy: of several processes, each with its own ``batch``; gradients and metrics
    are those of all. numbers: as ``StepNumbers.gather`` gives them, if they are known already. agreement: measures
    the gradient agreement of the first update, if both tasks train; the tasks are then replayed one after the other.
    Raises GradientError, before the weights change, if the gradient is not finite.
    """
    strategy = strategy or Replicate(World())
    world = strategy.world
    numbers = numbers or StepNumbers.gather(batch, world)
    if not any(bool(numbers.task(task).advantages.any()) for task in batch.tasks):
        logger.warning("step %d: every advantage is zero: within each group all rewards are equal", step)
    settings = with_micro_batches(settings, policy, batch, optimizer)
    weights = task_weights(settings)
    trained = [task for task in batch.tasks if weights[task] > 0.0]
    agreement = agreement if len(trained) == len(TASKS) else None
    joint = strategy.equal_micro_batches
    phases = [
        micro_batches(policy, batch, settings, tasks, numbers=numbers, equal=world if joint else None)
        for tasks in ([trained] if agreement is None else [[task] for task in trained])
    ]
    parts = list(itertools.chain(*phases))
    if settings.beta > 0.0:
        world.enter(f"step {step}, reference", joint=joint)
        assert reference is not None, "beta > 0 needs a frozen reference"
        for part in parts:
            part.reference_log_probs = reference.log_probs(part.trajectories)
    statistics = {task: LossStatistics() for task in batch.tasks}
    norms, moved = [], False
    agreements: dict[str, float] = {}
    for repeat in range(settings.updates_per_step):
        optimizer.zero_grad()
        sampled = []
        place = itertools.count(1)
        for phase in phases:
            for part in phase:
                if joint:
                    world.enter(f"step {step}, update, micro-batch {next(place)} of {len(parts)}", joint=True)
                loss = part.loss(policy, settings, statistics)
                # a micro-batch of answers alone has no gradient where only parts that generate images train
                if loss.requires_grad:
                    loss.backward()
                optimizer.collect_gradients()
            if agreement is not None and repeat == 0:
                sampled.append(agreement.read(optimizer.gradients()))
        world.enter(f"step {step}, optimizer", joint=joint)
        if agreement is not None and repeat == 0:
            first, both = sampled
            agreements = agreement.metrics(first, both, strategy)
        strategy.collect(optimizer)
        norms.append(_clip_gradients(optimizer, strategy, settings.max_grad_norm, step))
        moved = moved or bool(optimizer.gradients())
        optimizer.step(learning_rate)
    _report_zeros(norms, moved, step)
    optimizer.zero_grad()
    policy.refresh_inference()
    world.enter(f"step {step}, metrics")
    metrics = {
        f"{task}/{name}": value
        for task in batch.tasks
        for name, value in (
            reward_metrics(numbers.task(task)) | statistics[task].metrics(settings.updates_per_step, world)
        ).items()
    }
    if settings.unified_reward is not None:
        metrics |= unified_metrics(numbers, settings.unified_reward)
    return {
        **mean_of_tasks(metrics),
        **metrics,
        "loss": sum(weights[task] * metrics.get(f"{task}/loss", 0.0) for task in batch.tasks),
        "grad_norm": sum(norms) / len(norms),
        "learning_rate": learning_rate,
        "pair_weight": float(numbers.weights.mean()),
        **agreements,
    }


def _clip_gradients(optimizer: NamedAdamW, strategy: Strategy, max_norm: float, step: int) -> float:
    """The gradient's L2 norm before clipping."""
    total = optimizer.gradient_norm()
    norm = float(total)
    if not math.isfinite(norm):
        ranks = strategy.ranks_not_finite() if strategy.world.several else []
        where = f" on {named_ranks(ranks)}" if ranks else ""
        bad = [name for name, gradient in optimizer.gradients().items() if not gradient.isfinite().all()]
        if not bad and not ranks:
            raise GradientError(
                f"step {step}: the gradient is finite, but too large to be clipped (norm {norm})"
            )
        shown = ", ".join(bad[:3]) + (f" and {len(bad) - 3} more" if len(bad) > 3 else "")
        raise GradientError(f"step {step}: the gradient is not finite{where} (norm {norm}), first in {shown}")
    optimizer.clip_gradients(max_norm, total)
    return norm


def _report_zeros(norms: Sequence[float], moved: bool, step: int) -> None:
    """Warn of updates with a gradient of zero. moved: whether AdamW was given any gradient, be it zero."""
    zeros = norms.count(0.0)
    if not zeros:
        return
    which = "" if zeros == len(norms) else f" in {zeros} of {len(norms)} updates"
    effect = "only AdamW's momentum and weight decay change" if moved else "this step does not change"
    logger.warning("step %d: the gradient is exactly zero%s: %s the weights", step, which, effect)

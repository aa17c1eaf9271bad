"""`python -m benchmarks update`: tokens per second and memory of forward, loss and backward, ours and the peers'."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.baselines import UPDATE_STEPS, image_forward, text_forward
from benchmarks.cost import Group, sizes_of, update_flops
from benchmarks.hardware import copy_bandwidth, matrix_rate
from benchmarks.settings import UpdateBenchSettings
from benchmarks.timing import interleaved
from benchmarks.workload import build, random_trajectories
from pairuni.config import JanusSettings, PairGRPOSettings
from pairuni.pairgrpo.micro_batches import MicroBatch, TaskRows
from pairuni.pairgrpo.objective import LossTerms, pairgrpo_loss, trajectory_coefficients
from pairuni.policies.autoregressive import ImageTokens, TextTokens, TokenTrajectory
from pairuni.policies.janus.policy import JanusPolicy
from pairuni.policies.trajectories import TrajectoryLogProbs
from pairuni.records import TASKS

OURS, CHECKPOINTED = "pairuni", "pairuni-checkpointed"
BASELINES = ("peers", *UPDATE_STEPS)
ADDS = {
    "peers": "the peers' update: a padded pass per task, logits at every position, images K times",
    "images-once": "vision tower once per image",
    "sampled-positions": "heads only at sampled positions",
    OURS: "this project: one packed pass for both tasks, each prompt once, heads in chunks",
    CHECKPOINTED: "activation checkpointing: one state per layer is kept, the rest recomputed",
}
"""Descriptions of the contenders, each of which adds one thing to the previous ones."""

_TRAINS: list[str] = JanusSettings.model_fields["trainable"].get_default()
_GRPO = PairGRPOSettings()


def _loss(replay: TrajectoryLogProbs, advantages: Tensor) -> Tensor:
    """PairGRPO's loss of one task, on policy: the ratio is 1, its gradient is not."""
    terms = LossTerms(
        log_probs=replay.values,
        old_log_probs=replay.values.detach(),
        mask=replay.mask,
        advantages=advantages.to(replay.values),
        coefficients=trajectory_coefficients(replay.mask.sum(dim=-1), _GRPO.token_reduction).to(
            replay.values
        ),
    )
    return pairgrpo_loss(terms, clip_low=_GRPO.clip_low, clip_high=_GRPO.clip_high, beta=0.0)


def our_update(
    policy: JanusPolicy,
    answers: Sequence[TextTokens],
    images: Sequence[ImageTokens],
    advantages: Tensor,
    *,
    checkpointing: bool = False,
) -> None:
    """Forward and backward of both tasks as one micro-batch; advantages: [answers + images]."""
    trajectories: list[TokenTrajectory] = [*answers, *images]
    bounds = (0, len(answers), len(trajectories))
    task_rows = []
    for task, start, end in zip(TASKS, bounds[:-1], bounds[1:], strict=True):
        lengths = torch.tensor([len(one.tokens) for one in trajectories[start:end]])
        task_rows.append(
            TaskRows(
                task=task,
                rows=slice(start, end),
                advantages=advantages[start:end],
                coefficients=trajectory_coefficients(lengths, _GRPO.token_reduction),
                weight=1.0,
            )
        )
    policy.activation_checkpointing = checkpointing
    MicroBatch(trajectories=trajectories, tasks=task_rows).loss(policy, _GRPO).backward()


def peers_update(
    policy: JanusPolicy,
    answers: Sequence[TextTokens],
    images: Sequence[ImageTokens],
    advantages: Tensor,
    *,
    given: Sequence[str] = (),
) -> None:
    """Forward and backward of one task, then of the other."""
    first, second = advantages.split([len(answers), len(images)])
    _loss(text_forward(policy, answers, given=given), first).backward()
    _loss(image_forward(policy, images, given=given), second).backward()


def contenders(policy: JanusPolicy, settings: UpdateBenchSettings) -> dict[str, Callable[[int], object]]:
    """name -> one update without its optimizer step; those of ``settings.skip`` are left out."""
    policy.train_only(_TRAINS)
    answers, images = random_trajectories(policy, settings)
    generator = torch.Generator().manual_seed(0)
    advantages = torch.randn(len(answers) + len(images), generator=generator).to(policy.device)
    updates: dict[str, Callable[..., None]] = {
        "peers": peers_update,
        **{
            name: partial(peers_update, given=UPDATE_STEPS[: place + 1])
            for place, name in enumerate(UPDATE_STEPS)
        },
        OURS: our_update,
        CHECKPOINTED: partial(our_update, checkpointing=True),
    }

    def run(work: Callable[..., None]) -> Callable[[int], object]:
        def once(_: int) -> None:
            policy.module.zero_grad(set_to_none=True)
            work(policy, answers, images, advantages)

        return once

    return {name: run(work) for name, work in updates.items() if name not in settings.skip}


def groups_of(policy: JanusPolicy, settings: UpdateBenchSettings) -> list[Group]:
    """The groups of trajectories of ``random_trajectories``; guided images include their unconditional rows."""
    answers, images = random_trajectories(policy, settings)
    every: list[TokenTrajectory] = [*answers[:: settings.rollouts], *images[:: settings.rollouts]]
    groups = [
        Group(
            prompt=len(one.prompt_ids),
            completions=(len(one.tokens),) * settings.rollouts,
            modality=one.modality,
            imaged=isinstance(one, TextTokens),
        )
        for one in every
    ]
    if settings.branch == "guided" and settings.guidance != 1.0:
        groups += [group for group in groups if group.modality == "image"]
    return groups


def measure(settings: UpdateBenchSettings, memory: dict[str, dict[str, int]]) -> dict[str, Any]:
    """Time every contender, also as a share of the device's matrix rate.

    tokens: of prompts and completions with every prompt repeated for its K trajectories, the peers' count;
    it is the same for all contenders, so that tokens a second compare time alone. peak_memory_ratio is of
    all memory of the process, held_memory_ratio of what the update added to program and weights.
    """
    policy = build(settings)
    device = policy.device
    rate = matrix_rate(device, policy.module.dtype)
    groups = groups_of(policy, settings)
    flops = update_flops(sizes_of(policy.module), groups, vision_trains="vision_model" in _TRAINS)
    tokens = sum(group.prompt * len(group.completions) + sum(group.completions) for group in groups)
    distinct = sum(group.prompt + sum(group.completions) for group in groups)
    timings = interleaved(
        contenders(policy, settings), repeats=settings.repeats, device=device, title="update"
    )
    rows = {}
    for name, timing in timings.items():
        rows[name] = {
            **timing.to_dict(),
            "tokens_per_second": tokens / timing.median,
            "flops_per_second": flops["distinct"] / timing.median,
            "matrix_share": flops["distinct"] / timing.median / rate,
            "matrix_share_repeated": flops["repeated"] / timing.median / rate,
            **memory[name],
        }
    ours = timings[OURS].median
    held = {name: peak["peak_bytes"] - peak["start_bytes"] for name, peak in memory.items()}
    return {
        "trajectories": 2 * settings.prompts * settings.rollouts,
        "tokens": tokens,
        "distinct_tokens": distinct,
        "flops": flops,
        "matrix_flops_per_second": rate,
        "copy_bytes_per_second": copy_bandwidth(device),
        "contenders": rows,
        "times_faster": {name: timing.median / ours for name, timing in timings.items() if name in BASELINES},
        "peak_memory_ratio": {
            name: memory[name]["peak_bytes"] / memory[OURS]["peak_bytes"]
            for name in timings
            if name in BASELINES
        },
        "held_memory_ratio": {name: held[name] / held[OURS] for name in timings if name in BASELINES},
    }

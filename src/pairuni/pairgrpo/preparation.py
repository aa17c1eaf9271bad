"""Rewards and checked pairs of a training run, prepared before anything large is loaded."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pairuni.config import RunSettings
from pairuni.distributed.strategy import Replicate, Shard, Strategy
from pairuni.distributed.world import World
from pairuni.pairgrpo.plan import choose_strategy, device_memory, reward_model_bytes
from pairuni.pairgrpo.preflight import UnusablePairs, check_pairs, summary
from pairuni.pairgrpo.rollout import Rewards
from pairuni.pairug.dataset.pairings import load_pairing, sample_held_out
from pairuni.pairug.dataset.places import find_places
from pairuni.policies.policy import UnifiedPolicy
from pairuni.records import TASKS, UGPair
from pairuni.rewards.weighted import check_records
from pairuni.runs.models import load_for_run

logger = logging.getLogger("pairuni")


@dataclass(frozen=True)
class PreparedRun:
    """skeleton: the policy without weights. images_digest: as ``check_pairs`` returns it, for ``pairs``."""

    rewards: Rewards
    pairs: Sequence[UGPair]
    held_out: Sequence[UGPair]
    skeleton: UnifiedPolicy
    images_digest: str

    @property
    def most_images(self) -> int:
        """The most images that a question of ``pairs`` shows."""
        return max((len(pair.understand_ann.image_paths) for pair in self.pairs), default=1)


def prepare_run(
    settings: RunSettings, world: World | None = None, rewards: Rewards | None = None
) -> PreparedRun:
    """Load rewards and pairs, and check everything that can be checked without weights.

    world: of its ranks, rank 0 checks questions, prompts and images for all. rewards: by default those of the settings.
    Raises ValueError naming file, line and field of a problem.
    """
    rewards = rewards or Rewards.from_settings(settings.reward)
    pairs, held_out = _load_pairs(settings, rewards)
    skeleton = checked_skeleton(settings)

    def check() -> str:
        digest = check_file(skeleton, pairs, settings, settings.data.pairs)
        if held_out:
            check_file(skeleton, held_out, settings, settings.evaluation.pairs or settings.data.pairs)
        return digest

    digest = (world or World()).on_main(check)
    return PreparedRun(rewards, pairs, held_out, skeleton, digest)


def checked_skeleton(settings: RunSettings) -> UnifiedPolicy:
    """The policy of a run without weights and adapters. Raises ValueError for settings that do not fit it."""
    chosen = settings.policy
    skeleton = load_for_run(chosen, weights=False)
    skeleton.check_truncation(settings.rollout)
    if chosen.lora is None:
        skeleton.train_only(chosen.trainable)
    else:
        # adapters cannot be taken away again
        adapted = load_for_run(chosen, weights=False)
        adapted.add_adapters(chosen.lora, seed=settings.seed)
        adapted.train_only(chosen.trainable)
    return skeleton


def strategy_for(
    settings: RunSettings, policy: UnifiedPolicy, world: World, rewards: Rewards, most_images: int = 1
) -> Strategy:
    """How the processes of a run share its training state; an exchange. Raises ValueError for an impossible shard_size.

    rewards: their models take memory of the policy's device. most_images: see ``PreparedRun``.
    """
    chosen = settings.distributed
    if not world.several:
        return Replicate(world)
    here = int(os.environ.get("LOCAL_WORLD_SIZE", world.world_size))
    name, reason = world.broadcast(
        choose_strategy(
            *(settings, policy, world.world_size, device_memory(policy.device, here)),
            reward_models=reward_model_bytes(rewards)[str(policy.device)],
            images=most_images,
        )
    )
    if world.is_main:
        logger.info("%d processes %s the training state: %s", world.world_size, name, reason)
    if name == "replicate":
        return Replicate(world)
    return Shard(
        world,
        policy.device.type,
        reshard_after_forward=chosen.reshard_after_forward,
        shard_size=chosen.shard_size,
    )


def _load_pairs(settings: RunSettings, rewards: Rewards) -> tuple[list[UGPair], list[UGPair]]:
    """Pairs for training and for evaluation; ValueError if any lacks what a reward needs."""
    data, evaluation = settings.data, settings.evaluation
    held_out_file = evaluation.pairs or data.pairs
    held_out: list[UGPair] = []
    if evaluation.every and evaluation.task == "pairs":
        held_out = sample_held_out(held_out_file, evaluation.items, seed=settings.seed)
    pairs = load_pairing(
        data.pairs,
        data.pairing,
        seed=settings.seed,
        budget=data.budget,
        held_out=held_out,
        held_out_folder=held_out_file.parent,
        sides=[task for task in TASKS if getattr(settings.pairgrpo, f"{task}_weight") > 0.0],
        most_excluded=evaluation.most_excluded,
    )
    check_records(rewards.understanding, [pair.understand_ann for pair in [*pairs, *held_out]])
    check_records(rewards.generation, [pair.generate_ann for pair in [*pairs, *held_out]])
    return pairs, held_out


def check_file(skeleton: UnifiedPolicy, pairs: Sequence[UGPair], settings: RunSettings, file: Path) -> str:
    """``check_pairs``, with faults located in the pair file."""
    try:
        return check_pairs(skeleton, pairs, settings.rollout, file.parent)
    except UnusablePairs as error:
        places = find_places(file, {(fault.field, fault.value) for fault in error.faults})
        faults = [
            f"{places.get((fault.field, fault.value), f'{file}, field {fault.field}')}: {fault.description}"
            for fault in error.faults
        ]
        raise ValueError(summary(faults)) from None

"""The exact gradient agreement of given weights on the paper's data mixes (arXiv:2510.25682)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pairuni.config import Pairing, RunSettings
from pairuni.console.counts import counted
from pairuni.console.progress import Progress
from pairuni.pairgrpo.agreement import gradient_agreement
from pairuni.pairgrpo.preparation import check_file, checked_skeleton
from pairuni.pairgrpo.rollout import Rewards, load_pair_image, rollout_batch
from pairuni.pairug.dataset.pairings import least_similar, load_pairing
from pairuni.pairug.selection.features import mean_direction
from pairuni.policies.policy import UnifiedPolicy
from pairuni.records import Annotation, UGPair
from pairuni.rewards.weighted import check_records
from pairuni.runs.metrics import AGREEMENT
from pairuni.runs.mixes import BatchAgreement, Mix, MixesFolder
from pairuni.runs.models import load_for_run
from pairuni.runs.state import digest_of_pairs
from pairuni.training.digests import digest_of_tensors
from pairuni.training.seeding import derive_seed, shuffled_indices

BLOCK = 1024
"""The mix low-similarity reassigns the sides of so many pairs, so its batches do not depend on their number."""
_IMAGES = 64
"""Images whose features are computed together."""
_NO_INFLUENCE = {
    "policy": {"device", "activation_checkpointing"},
    "pairgrpo": {"steps", "epochs", "micro_batch_tokens"},
}
"""Settings that may change when further batches are measured."""


def measure_mixes(settings: RunSettings, out: Path, mixes: Sequence[Mix], batches: int) -> None:
    """Measure ``batches`` batches of ``pairgrpo.pairs_per_batch`` pairs of each mix; nothing is trained.

    A line is added to ``out``/agreement.jsonl for each finished batch, and a batch that is there is not repeated. A
    batch's pairs and seed depend on its number alone, so batches of one number are comparable between mixes: where
    mixes have the same pairs in another arrangement, their questions are the same.

    Raises ValueError for a mix with too few pairs, for low-similarity without a vision tower, for pairs that cannot be
    used, and for a folder with batches of other settings.
    """
    rewards = Rewards.from_settings(settings.reward)
    count = batches * settings.pairgrpo.pairs_per_batch
    skeleton = checked_skeleton(settings)
    if "low-similarity" in mixes and not skeleton.has_vision_tower:
        raise ValueError(
            f"the mix low-similarity compares images by the policy's vision tower, which {skeleton.name} does not "
            "have; name other mixes with --mixes"
        )
    every = {mix: _all_pairs(settings, mix) for mix in mixes}
    pairs = {mix: _in_order(own, mix, count, settings) for mix, own in every.items()}
    for own in pairs.values():
        check_records(rewards.understanding, [pair.understand_ann for pair in own])
        check_records(rewards.generation, [pair.generate_ann for pair in own])
        check_file(skeleton, own, settings, settings.data.pairs)
    policy = _loaded(settings)
    folder = MixesFolder(out)
    folder.begin(_identity(settings, policy) | {"pairs_sha256": _digests(every)})
    if "low-similarity" in pairs:
        pairs["low-similarity"] = _least_similar(policy, pairs["low-similarity"], settings.data.pairs.parent)
    finished = {(one.mix, one.batch) for one in folder.read()}
    missing = [(mix, batch) for batch in range(batches) for mix in mixes if (mix, batch) not in finished]
    total = batches * len(mixes)
    with Progress("agreement", total=total, start=total - len(missing), unit="batches") as progress:
        for mix, batch in missing:
            size = settings.pairgrpo.pairs_per_batch
            found = _measured(policy, settings, rewards, mix, batch, pairs[mix][batch * size :][:size])
            folder.append(found)
            cosine = found.agreement.get(AGREEMENT)
            progress.advance(status=f"{mix} {'no cosine' if cosine is None else f'{cosine:.4f}'}")


def _all_pairs(settings: RunSettings, mix: Mix) -> list[UGPair]:
    """Every pair of a mix; of low-similarity before its sides are reassigned."""
    pairing: Pairing = "pairug" if mix == "low-similarity" else mix
    return load_pairing(settings.data.pairs, pairing, seed=settings.seed)


def _in_order(pairs: Sequence[UGPair], mix: Mix, count: int, settings: RunSettings) -> list[UGPair]:
    """``count`` pairs in the order of their batches; of low-similarity whole blocks."""
    size, available = settings.pairgrpo.pairs_per_batch, len(pairs)
    if available < count:
        enough = counted(available // size, "batch", "batches")
        raise ValueError(
            f"the mix {mix} has {counted(available, 'pair')}, enough for {enough} of {size}; lower --batches or "
            "pairgrpo.pairs_per_batch"
        )
    number = min(available, -(-count // BLOCK) * BLOCK) if mix == "low-similarity" else count
    return [pairs[place] for place in shuffled_indices(available, start=0, number=number, seed=settings.seed)]


def _least_similar(policy: UnifiedPolicy, pairs: Sequence[UGPair], image_folder: Path) -> list[UGPair]:
    made: list[UGPair] = []
    for start in range(0, len(pairs), BLOCK):
        block = pairs[start : start + BLOCK]
        understanding = _features(policy, [pair.understand_ann for pair in block], image_folder)
        generation = _features(policy, [pair.generate_ann for pair in block], image_folder)
        made += least_similar(block, understanding, generation)
    return made


def _features(policy: UnifiedPolicy, sides: Sequence[Annotation], image_folder: Path) -> NDArray[np.float32]:
    """[N, D] features of the sides' images by the policy's own vision tower; see ``mean_direction``."""
    paths = [image_folder / path for side in sides for path in side.image_paths]
    with torch.inference_mode():
        parts = [
            policy.image_features([load_pair_image(path) for path in paths[start : start + _IMAGES]])
            for start in range(0, len(paths), _IMAGES)
        ]
    features: NDArray[np.float32] = torch.cat(parts).numpy()
    ends = np.cumsum([len(side.image_paths) for side in sides])[:-1]
    return np.stack([mean_direction(rows) for rows in np.split(features, ends)])


def _loaded(settings: RunSettings) -> UnifiedPolicy:
    """The policy as a trainer would begin with it."""
    chosen = settings.policy
    policy = load_for_run(settings.policy)
    policy.module.eval()
    policy.activation_checkpointing = chosen.activation_checkpointing
    if chosen.lora is not None:
        policy.add_adapters(chosen.lora, seed=settings.seed)
    policy.train_only(chosen.trainable)
    policy.refresh_inference()
    return policy


def _identity(settings: RunSettings, policy: UnifiedPolicy) -> dict[str, Any]:
    """What the batches of one folder have in common."""
    own = settings.model_dump(
        mode="json", include={"seed", "policy", "rollout", "reward", "pairgrpo"}, exclude=_NO_INFLUENCE
    )
    return {**own, "weights_sha256": digest_of_tensors(policy.inference_module.state_dict())}


def _digests(pairs: Mapping[Mix, Sequence[UGPair]]) -> dict[str, str]:
    return {mix: digest_of_pairs(own) for mix, own in pairs.items()}


def _measured(
    policy: UnifiedPolicy,
    settings: RunSettings,
    rewards: Rewards,
    mix: Mix,
    batch: int,
    pairs: Sequence[UGPair],
) -> BatchAgreement:
    began = time.perf_counter()
    grpo = settings.pairgrpo
    rollouts = rollout_batch(
        policy,
        pairs,
        settings.rollout,
        rewards,
        seed=derive_seed(settings.seed, batch),
        image_folder=settings.data.pairs.parent,
        pair_weight_mode=grpo.pair_weight,
        std_eps=grpo.std_eps,
        unified_reward=grpo.unified_reward,
    )
    agreement = gradient_agreement(policy, rollouts, policy.trained(), grpo)
    return BatchAgreement(
        mix=mix,
        batch=batch,
        agreement=agreement,
        understanding_reward=float(rollouts.task("understanding").rewards.mean()),
        generation_reward=float(rollouts.task("generation").rewards.mean()),
        seconds=time.perf_counter() - began,
    )

"""`python -m benchmarks agreement`: the gradient agreement that a run estimates, beside the exact cosine.

A policy trains on the digits world by the recipe of the demo. A twin makes the same updates without the estimate; the
two take turns. ``python -m benchmarks.agreement CONTENDER SETTINGS PAIRS`` prints the peak memory of one of them.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.child import run_module
from benchmarks.hardware import resident
from benchmarks.settings import AgreementBenchSettings
from benchmarks.timing import Timing
from pairuni.config import RunSettings, load_settings, shipped_recipe
from pairuni.console.progress import Progress
from pairuni.demo import build_digits
from pairuni.distributed.strategy import Replicate
from pairuni.distributed.world import World
from pairuni.pairgrpo.agreement import agreement_of, task_gradient
from pairuni.pairgrpo.online_agreement import COORDINATES, OnlineAgreement
from pairuni.pairgrpo.rollout import Rewards, RolloutBatch, rollout_batch
from pairuni.pairgrpo.step import update
from pairuni.pairgrpo.trainer import learning_rate_at
from pairuni.pairug.dataset.store import read_pairs
from pairuni.policies import load_policy
from pairuni.records import TASKS
from pairuni.runs.metrics import AGREEMENT
from pairuni.training.optimizer import NamedAdamW
from pairuni.training.seeding import derive_seed, shuffled_indices

WITHOUT, OURS = "without", "pairuni"
ADDS = {
    WITHOUT: "a step of the digits recipe",
    OURS: "the same with `logging.gradient_agreement`",
}
"""Descriptions of the contenders."""

FEWER = (1 << 13, 1 << 10)
"""Smaller samples, which stand for larger parameters: their estimates are computed from the exact gradients."""


Seconds = NDArray[np.float64]
"""[2]: seconds of the wall clock, and of this process on the processor."""


def clocks() -> Seconds:
    return np.array([time.perf_counter(), time.process_time()])


class Trained:
    """A policy that trains by the recipe digits, with the estimate or without; ``update`` returns its seconds."""

    def __init__(self, settings: AgreementBenchSettings, pairs: Path, *, measures: bool) -> None:
        words = [f"--data.pairs={pairs}", f"--seed={settings.seed}"]
        words += [f"--rollout.{task}={settings.rollouts}" for task in ("understanding", "generation")]
        self.run = load_settings(RunSettings, shipped_recipe("digits"), words)
        self.steps = settings.steps
        self.policy = load_policy(settings.model, dtype=settings.dtype, device=settings.device)
        self.policy.module.eval()
        self.parameters = self.policy.train_only(self.run.policy.trainable)
        self.optimizer = NamedAdamW(self.parameters, learning_rate=self.run.pairgrpo.learning_rate)
        self.names = [name for name, _ in self.parameters]
        self.agreement = self.estimator(COORDINATES) if measures else None
        self.metrics: dict[str, float] = {}

    def estimator(self, coordinates: int) -> OnlineAgreement:
        return OnlineAgreement(self.optimizer.masters, seed=self.run.seed, coordinates=coordinates)

    def update(self, batch: RolloutBatch, step: int) -> Seconds:
        began = clocks()
        self.metrics = update(
            self.policy,
            batch,
            self.optimizer,
            self.run.pairgrpo,
            step=step,
            learning_rate=learning_rate_at(step, self.run.pairgrpo, self.steps),
            agreement=self.agreement,
        )
        return clocks() - began


def batches(
    trained: Trained, settings: AgreementBenchSettings
) -> Iterator[tuple[int, RolloutBatch, Seconds]]:
    """Step, rollouts of its pairs as a run would sample them, and their seconds."""
    run = trained.run
    pairs, rewards = read_pairs(run.data.pairs), Rewards.from_settings(run.reward)
    for step in range(1, settings.steps + 1):
        start = (step - 1) * settings.prompts
        order = shuffled_indices(len(pairs), start=start, number=settings.prompts, seed=run.seed)
        began = clocks()
        batch = rollout_batch(
            trained.policy,
            [pairs[place] for place in order],
            run.rollout,
            rewards,
            seed=derive_seed(run.seed, step, 0),
            image_folder=run.data.pairs.parent,
            pair_weight_mode=run.pairgrpo.pair_weight,
            std_eps=run.pairgrpo.std_eps,
        )
        yield step, batch, clocks() - began


def measure(settings: AgreementBenchSettings) -> dict[str, Any]:
    """Pearson correlation of estimated and exact cosines over the steps, and what the estimate adds to a step.

    Steps whose gradients have no cosine are left out of the correlation. step_share: median of the processor time that
    the estimate adds to a step by that of a step, so that other processes of the machine do not count.
    """
    with tempfile.TemporaryDirectory() as folder:
        policy = load_policy(settings.model, dtype=settings.dtype, device=settings.device)
        build_digits(policy, settings.seed, Path(folder), settings.samples)
        pairs = Path(folder) / "pairug" / "pairs.jsonl"
        words = (settings.model_dump_json(), str(pairs))
        memory = {name: run_module("benchmarks.agreement", name, *words) for name in ADDS}
        return _train(settings, pairs, memory)


def _train(
    settings: AgreementBenchSettings, pairs: Path, memory: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    twins = {name: Trained(settings, pairs, measures=name == OURS) for name in ADDS}
    ours = twins[OURS]
    estimators = {most: ours.estimator(most) for most in FEWER}
    exact: list[float] = []
    estimates: dict[int, list[float]] = {most: [] for most in (COORDINATES, *FEWER)}
    rollouts: list[Seconds] = []
    updates: dict[str, list[Seconds]] = {name: [] for name in ADDS}
    with Progress("agreement", total=settings.steps, unit="steps") as progress:
        for step, batch, seconds in batches(ours, settings):
            rollouts.append(seconds)
            understanding, generation = (
                task_gradient(ours.policy, batch, ours.parameters, ours.run.pairgrpo, task) for task in TASKS
            )
            found = agreement_of(ours.names, understanding, generation)
            samples = {
                most: _estimate(one, ours.names, understanding, generation)
                for most, one in estimators.items()
            }
            for name in list(ADDS)[:: 1 if step % 2 else -1]:
                updates[name].append(twins[name].update(batch, step))
            if AGREEMENT in found:
                exact.append(found[AGREEMENT])
                for most, metrics in ({COORDINATES: ours.metrics} | samples).items():
                    estimates[most].append(metrics[AGREEMENT])
            progress.advance(status=f"exact {exact[-1]:.4f}" if exact else "")
    rows: dict[str, dict[str, Any]] = {}
    for name in ADDS:
        timing = Timing(
            seconds=[float(one[0] + two[0]) for one, two in zip(rollouts, updates[name], strict=True)]
        )
        median = statistics.median(float(each[0]) for each in updates[name])
        rows[name] = {**timing.to_dict(), "update_seconds": median, **memory[name]}
    added = np.subtract(updates[OURS], updates[WITHOUT])[:, 1]
    of_step = np.add(rollouts, updates[WITHOUT])[:, 1]
    rows[OURS]["step_share"] = float(np.median(added) / np.median(of_step))
    sizes = [parameter.numel() for _, parameter in ours.parameters]
    return {
        "pairs": settings.prompts,
        "parameters": sum(sizes),
        "exact_mean": float(np.mean(exact)),
        "exact_std": float(np.std(exact)),
        "estimates": {
            str(most): {
                "read": sum(min(size, most) for size in sizes) / sum(sizes),
                "pearson": float(np.corrcoef(exact, found)[0, 1]),
                "error": float(np.sqrt(np.mean(np.square(np.subtract(exact, found))))),
            }
            for most, found in estimates.items()
        },
        "by_step": {"exact": exact, "estimated": estimates[COORDINATES]},
        "contenders": rows,
    }


def _estimate(
    estimator: OnlineAgreement, names: Sequence[str], first: Sequence[Tensor], second: Sequence[Tensor]
) -> dict[str, float]:
    both = [one + other for one, other in zip(first, second, strict=True)]
    readings = [estimator.read(dict(zip(names, each, strict=True))) for each in (first, both)]
    return estimator.metrics(readings[0], readings[1], Replicate(World()))


def peak(name: str, words: str, pairs: str) -> dict[str, int]:
    """Memory of a process that trains three steps: before the first, and at the peak."""
    settings = AgreementBenchSettings.model_validate_json(words).model_copy(update={"steps": 3})
    trained = Trained(settings, Path(pairs), measures=name == OURS)
    start, _ = resident()
    for step, batch, _ in batches(trained, settings):
        trained.update(batch, step)
    return {"start_bytes": start, "peak_bytes": resident()[1]}


if __name__ == "__main__":
    print(json.dumps(peak(*sys.argv[1:])))

"""`python -m benchmarks step`: a complete PairGRPO step, rollout to optimizer, with stub rewards."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.hardware import synchronise
from benchmarks.rollout import TEMPERATURE
from benchmarks.settings import StepBenchSettings
from benchmarks.timing import Timing, interleaved
from benchmarks.workload import build, image_prompts, noise_images, questions
from pairuni.config import JanusSettings, LoRASettings, PairGRPOSettings, RolloutSettings
from pairuni.distributed.strategy import Replicate, Strategy
from pairuni.distributed.world import World
from pairuni.pairgrpo.rollout import Rewards, rollout_batch
from pairuni.pairgrpo.step import update
from pairuni.policies.janus.policy import JanusPolicy
from pairuni.records import Annotation, UGPair
from pairuni.training.optimizer import NamedAdamW

OURS = "pairuni"
ADDS = {OURS: "rollout of answers and images, stub rewards, update, AdamW"}
"""Description of the contender."""


class StubReward:
    """Scores by position, so that no group has zero variance and every trajectory enters the update.

    first: position of the first sample among those of all processes.
    """

    name = "stub"

    def __init__(self, first: int) -> None:
        self._first = first

    def __call__(self, records: Sequence[Annotation], samples: Sequence[Any]) -> list[float]:
        return [float((self._first + index) % 7) for index in range(len(samples))]


class Stepper:
    """One policy, its optimizer and a batch of pairs; ``run`` performs a step and records the time of its parts.

    strategy: of several processes, which share out the pairs.
    """

    def __init__(
        self, policy: JanusPolicy, settings: StepBenchSettings, strategy: Strategy | None = None
    ) -> None:
        self.policy = policy
        self.strategy = strategy or Replicate(World())
        self.folder = tempfile.TemporaryDirectory()  # removed with this object
        self.grpo = PairGRPOSettings(
            micro_batch_tokens=settings.micro_batch_tokens, pairs_per_batch=settings.prompts
        )
        self.rollout = RolloutSettings(
            understanding=settings.rollouts,
            generation=settings.rollouts,
            temperature=TEMPERATURE,
            guidance=settings.guidance,
            branch=settings.branch,
            max_new_tokens=settings.answer_length,
        )
        if settings.lora is not None:
            policy.add_adapters(LoRASettings(rank=settings.lora, alpha=2.0 * settings.lora), seed=0)
        policy.train_only(JanusSettings.model_fields["trainable"].get_default())
        self.strategy.place(policy)
        self.optimizer = NamedAdamW(policy.trained(), learning_rate=self.grpo.learning_rate)
        self.places = self.strategy.world.share.of(settings.prompts)
        pairs = _pairs(policy, settings.prompts, Path(self.folder.name))
        self.pairs = pairs[self.places.start : self.places.stop]
        self.rollout_seconds: list[float] = []
        self.update_seconds: list[float] = []
        self.metrics: dict[str, float] = {}

    def run(self, seed: int) -> None:
        stub = StubReward(self.places.start * self.rollout.understanding)
        began = time.perf_counter()
        batch = rollout_batch(
            self.policy,
            self.pairs,
            self.rollout,
            Rewards(understanding=stub, generation=stub),
            seed=seed,
            first_prompt=self.places.start,
            image_folder=Path(self.folder.name),
        )
        synchronise(self.policy.device)
        between = time.perf_counter()
        self.metrics = update(
            self.policy,
            batch,
            self.optimizer,
            self.grpo,
            step=seed,
            learning_rate=self.grpo.learning_rate,
            strategy=self.strategy,
        )
        synchronise(self.policy.device)
        self.rollout_seconds.append(between - began)
        self.update_seconds.append(time.perf_counter() - between)


def _pairs(policy: JanusPolicy, count: int, folder: Path) -> list[UGPair]:
    pairs = []
    words = zip(noise_images(policy, count), image_prompts(count), questions(count), strict=True)
    for index, (image, prompt, question) in enumerate(words):
        image.save(folder / f"{index}.png")
        side = Annotation(image_path=f"{index}.png", prompt=prompt, question=question, answer="A")
        pairs.append(UGPair(similarity=1.0, generate_ann=side, understand_ann=side))
    return pairs


def contenders(policy: JanusPolicy, settings: StepBenchSettings) -> dict[str, Callable[[int], object]]:
    """The one contender."""
    return {OURS: Stepper(policy, settings).run}


def measure(settings: StepBenchSettings, memory: dict[str, dict[str, int]]) -> dict[str, Any]:
    """Time complete steps, with rollout and update separately."""
    policy = build(settings)
    stepper = Stepper(policy, settings)
    timing = interleaved({OURS: stepper.run}, repeats=settings.repeats, device=policy.device, title="step")[
        OURS
    ]
    parts = {
        "rollout_seconds": Timing(seconds=stepper.rollout_seconds[1:]).median,
        "update_seconds": Timing(seconds=stepper.update_seconds[1:]).median,
    }
    trajectories = 2 * settings.prompts * settings.rollouts
    differences = {
        name: value for name, value in stepper.metrics.items() if "sampling_logp_difference" in name
    }
    return {
        "pairs": settings.prompts,
        "trajectories": trajectories,
        "trained_parameters": sum(one.numel() for one in stepper.optimizer.parameters.values()),
        "contenders": {
            OURS: {
                **timing.to_dict(),
                **parts,
                "trajectories_per_second": trajectories / timing.median,
                **memory[OURS],
            }
        },
        "log_prob_differences": differences,
    }

"""Rollouts of a batch of pairs: trajectories, rewards and advantages of both tasks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from PIL import Image
from torch import Tensor

from pairuni.config import PairWeight, RewardNormalisation, RewardSettings, RolloutSettings
from pairuni.distributed.world import World
from pairuni.io.images import ImageError, load_image
from pairuni.pairgrpo.advantages import (
    combined_advantages,
    group_advantages,
    pair_weight,
    unified_rewards,
    weighted_sum,
)
from pairuni.policies.policy import ImageSampling, TextSampling, Trajectory, UnifiedPolicy
from pairuni.records import Annotation, Task, UGPair
from pairuni.rewards.registry import image_reward, text_reward
from pairuni.rewards.reward import ImageReward, Reward, TextReward
from pairuni.rewards.weighted import scores_by_term, terms_of
from pairuni.training.seeding import derive_seed

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Rewards:
    """The reward of each task, which may be a weighted sum.

    normalise: how the terms of a sum become advantages, see ``combined_advantages``. timeout: seconds for a batch;
    None waits without limit.
    """

    understanding: TextReward
    generation: ImageReward
    normalise: RewardNormalisation = "sum"
    timeout: float | None = None

    @classmethod
    def from_settings(cls, settings: RewardSettings) -> Self:
        """Raises ValueError listing the known rewards if a name is unknown."""
        return cls(
            understanding=text_reward(settings.understanding, settings),
            generation=image_reward(settings.generation, settings),
            normalise=settings.normalise,
            timeout=settings.timeout,
        )

    def task(self, task: Task) -> Reward:
        return self.understanding if task == "understanding" else self.generation


@dataclass(frozen=True, kw_only=True)
class TaskRollouts:
    """P groups of K trajectories of one task; trajectories and samples are in pair-major order, P K of them.

    samples: answers or images; rewards, advantages: [P, K] float64, without the pair weight. terms: scores by each
    reward of a sum, by name, [P, K] float64, without its weight; a single entry if there is no sum.
    """

    trajectories: Sequence[Trajectory]
    samples: Sequence[Any]
    terms: Mapping[str, Tensor]
    rewards: Tensor
    advantages: Tensor

    @property
    def group_size(self) -> int:
        return self.rewards.shape[1]

    @property
    def lengths(self) -> Tensor:
        """[P K] numbers of sampled tokens."""
        return torch.tensor([len(trajectory.tokens) for trajectory in self.trajectories])

    @property
    def numbers(self) -> TaskNumbers:
        # images always have all their tokens: only text can be truncated
        cut = [not one.finished for one in self.trajectories if one.modality == "text"]
        prompts = sum(len(one.prompt_ids) for one in self.trajectories)
        return TaskNumbers(self.terms, self.rewards, self.advantages, self.lengths, cut, prompts)

    @classmethod
    def join(cls, parts: Sequence[TaskRollouts]) -> TaskRollouts:
        return cls(
            trajectories=[trajectory for part in parts for trajectory in part.trajectories],
            samples=[sample for part in parts for sample in part.samples],
            terms={name: torch.cat([part.terms[name] for part in parts]) for name in parts[0].terms},
            rewards=torch.cat([part.rewards for part in parts]),
            advantages=torch.cat([part.advantages for part in parts]),
        )


@dataclass(frozen=True, kw_only=True)
class RolloutBatch:
    """Pairs with their rollouts. weights: [P] float64 pair weights w_p."""

    pairs: Sequence[UGPair]
    weights: Tensor
    understanding: TaskRollouts
    generation: TaskRollouts

    def task(self, task: Task) -> TaskRollouts:
        return self.understanding if task == "understanding" else self.generation

    def weighted_advantages(self, task: Task) -> Tensor:
        """Eq. 2: [P K] w_p A, in the order of the task's trajectories."""
        return (self.weights.unsqueeze(-1) * self.task(task).advantages).flatten()

    def unified(self, weight: float, std_eps: float) -> RolloutBatch:
        """The batch with the advantages of ``unified_rewards`` in both tasks."""
        rewards = unified_rewards(self.understanding.rewards, self.generation.rewards, weight)
        advantages = group_advantages(rewards, std_eps)
        return replace(
            self,
            understanding=replace(self.understanding, advantages=advantages),
            generation=replace(self.generation, advantages=advantages),
        )

    @classmethod
    def join(cls, batches: Sequence[RolloutBatch]) -> RolloutBatch:
        """One batch of all pairs; accumulating gradients over batches equals an update on their union."""
        return cls(
            pairs=[pair for batch in batches for pair in batch.pairs],
            weights=torch.cat([batch.weights for batch in batches]),
            understanding=TaskRollouts.join([batch.understanding for batch in batches]),
            generation=TaskRollouts.join([batch.generation for batch in batches]),
        )


@dataclass(frozen=True)
class TaskNumbers:
    """What the objective and the metrics need of one task's rollouts besides the trajectories.

    terms, rewards, advantages: [P, K], lengths: [P K], as in ``TaskRollouts``. unfinished: for each answer, whether
    it was cut off; empty for images. prompt_tokens: of all trajectories.
    """

    terms: Mapping[str, Tensor]
    rewards: Tensor
    advantages: Tensor
    lengths: Tensor
    unfinished: Sequence[bool]
    prompt_tokens: int

    @classmethod
    def join(cls, parts: Sequence[TaskNumbers]) -> TaskNumbers:
        return cls(
            terms={name: torch.cat([part.terms[name] for part in parts]) for name in parts[0].terms},
            rewards=torch.cat([part.rewards for part in parts]),
            advantages=torch.cat([part.advantages for part in parts]),
            lengths=torch.cat([part.lengths for part in parts]),
            unfinished=[one for part in parts for one in part.unfinished],
            prompt_tokens=sum(part.prompt_tokens for part in parts),
        )


@dataclass(frozen=True)
class StepNumbers:
    """The numbers of a step's rollouts on all ranks, in the order of the step's pairs.

    weights: [P] pair weights. first_pair: place of this rank's first pair among them.
    """

    weights: Tensor
    understanding: TaskNumbers
    generation: TaskNumbers
    first_pair: int = 0

    def task(self, task: Task) -> TaskNumbers:
        return self.understanding if task == "understanding" else self.generation

    @classmethod
    def gather(cls, batch: RolloutBatch, world: World) -> StepNumbers:
        """Those of each rank's ``batch``. An exchange."""
        parts = world.gather((batch.weights, batch.understanding.numbers, batch.generation.numbers))
        return cls(
            weights=torch.cat([weights for weights, _, _ in parts]),
            understanding=TaskNumbers.join([understanding for _, understanding, _ in parts]),
            generation=TaskNumbers.join([generation for _, _, generation in parts]),
            first_pair=sum(len(weights) for weights, _, _ in parts[: world.rank]),
        )


class Scoring:
    """Runs rewards in a thread while an accelerator continues to sample; on a CPU, which both need, at once.

    There is one thread, so rewards get their batches in order.
    """

    def __init__(self, device: torch.device) -> None:
        self.seconds = 0.0
        """How long rewards have run."""
        self._pool = None if device.type == "cpu" else ThreadPoolExecutor(max_workers=1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def submit(self, score: Callable[[], Result]) -> Callable[[], Result]:
        """Start ``score``; the returned function waits for its result, or raises its exception."""
        if self._pool is not None:
            return self._pool.submit(self._timed, score).result
        result = self._timed(score)
        return lambda: result

    def _timed(self, score: Callable[[], Result]) -> Result:
        began = time.perf_counter()
        try:
            return score()
        finally:
            self.seconds += time.perf_counter() - began


def begin_rollouts(
    policy: UnifiedPolicy,
    pairs: Sequence[UGPair],
    rollout: RolloutSettings,
    rewards: Rewards,
    scoring: Scoring,
    *,
    seed: int,
    image_folder: Path,
    first_prompt: int = 0,
    pair_weight_mode: PairWeight = "sqrt",
    std_eps: float = 1e-4,
    unified_reward: float | None = None,
) -> Callable[[], RolloutBatch]:
    """Sample K_u answers and K_g images for each pair and start scoring them.

    The returned function waits for the rewards and computes the advantages. image_folder: what the pairs' image
    paths are relative to. first_prompt: place of the first pair in its batch, if these pairs are a part of one.
    unified_reward: one advantage for both tasks, see ``unified_rewards``; None is the method's own advantages.
    Raises ValueError if an image does not open and, now or later, RewardError if a reward fails.
    """
    questions = [pair.understand_ann for pair in pairs]
    prompts = [pair.generate_ann for pair in pairs]
    with torch.no_grad():
        answer_groups, image_groups = policy.sample(
            TextSampling(
                images=[load_pair_image(image_folder / record.image_path) for record in questions],
                questions=[record.question for record in questions],
                rollouts=rollout.understanding,
                temperature=rollout.temperature,
                max_new_tokens=rollout.max_new_tokens,
                seed=derive_seed(seed, 0),
                first_prompt=first_prompt,
            ),
            ImageSampling(
                prompts=[record.prompt for record in prompts],
                rollouts=rollout.generation,
                temperature=rollout.temperature,
                guidance=rollout.guidance,
                branch=rollout.branch,
                seed=derive_seed(seed, 1),
                first_prompt=first_prompt,
            ),
        )
    answers = [trajectory for group in answer_groups for trajectory in group]
    images = [trajectory for group in image_groups for trajectory in group]
    texts = [answer.text for answer in answers]
    understanding = scoring.submit(
        lambda: _scored(answers, texts, questions, rewards, "understanding", std_eps)
    )
    decoded = policy.decode_images(images)
    generation = scoring.submit(lambda: _scored(images, decoded, prompts, rewards, "generation", std_eps))
    similarities = [1.0 if pair.kind == "aligned" else pair.similarity for pair in pairs]

    def finish() -> RolloutBatch:
        batch = RolloutBatch(
            pairs=list(pairs),
            weights=pair_weight(torch.tensor(similarities, dtype=torch.float64), pair_weight_mode),
            understanding=understanding(),
            generation=generation(),
        )
        return batch if unified_reward is None else batch.unified(unified_reward, std_eps)

    return finish


def rollout_batch(
    policy: UnifiedPolicy,
    pairs: Sequence[UGPair],
    rollout: RolloutSettings,
    rewards: Rewards,
    **options: Any,
) -> RolloutBatch:
    """``begin_rollouts``, with its keyword arguments, and wait for the rewards."""
    with Scoring(policy.device) as scoring:
        return begin_rollouts(policy, pairs, rollout, rewards, scoring, **options)()


def load_pair_image(path: Path) -> Image.Image:
    """The complete image as RGB. Raises ImageError naming a file that is missing or damaged."""
    try:
        return load_image(path)
    except ImageError as error:
        raise ImageError(
            f"the image {path} does not open (it {error.reason}); run `pairuni pairs check`"
        ) from None


def _scored(
    trajectories: Sequence[Trajectory],
    samples: Sequence[Any],
    records: Sequence[Annotation],
    rewards: Rewards,
    task: Task,
    std_eps: float,
) -> TaskRollouts:
    repeated = [record for record in records for _ in range(len(samples) // len(records))]
    reward = rewards.task(task)
    terms = {
        name: torch.tensor(scores, dtype=torch.float64).view(len(records), -1)
        for name, scores in scores_by_term(reward, repeated, samples, timeout=rewards.timeout).items()
    }
    scores = torch.stack(list(terms.values()))
    weights = torch.tensor([term.weight for term in terms_of(reward)], dtype=torch.float64)
    return TaskRollouts(
        trajectories=trajectories,
        samples=samples,
        terms=terms,
        rewards=weighted_sum(scores, weights),
        advantages=combined_advantages(scores, weights, rewards.normalise, std_eps),
    )

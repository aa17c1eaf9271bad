"""Rollouts of a batch of pairs: trajectories, rewards and advantages of both tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import torch
from PIL import Image
from torch import Tensor

from pairuni.config import PairWeight, RewardNormalisation, RolloutSettings
from pairuni.io.images import ImageError, load_image
from pairuni.pairgrpo.advantages import combined_advantages, pair_weight, weighted_sum
from pairuni.policies.policy import ImageSampling, TextSampling, Trajectory, UnifiedPolicy
from pairuni.records import Annotation, UGPair
from pairuni.rewards.reward import ImageReward, Reward, TextReward
from pairuni.rewards.weighted import scores_by_term, terms_of
from pairuni.training.seeding import derive_seed

Task = Literal["understanding", "generation"]
TASKS: tuple[Task, Task] = ("understanding", "generation")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Rewards:
    """The reward of each task, which may be a sum of several.

    normalise: the terms of a sum are added up and then normalised within each group (sum), or each is normalised
    by itself and the advantages are averaged (each). timeout: seconds for a batch; None waits for ever.
    """

    understanding: TextReward
    generation: ImageReward
    normalise: RewardNormalisation = "sum"
    timeout: float | None = None

    def task(self, task: Task) -> Reward:
        return self.understanding if task == "understanding" else self.generation


@dataclass(frozen=True, kw_only=True)
class TaskRollouts:
    """P groups of K trajectories of one task; trajectories and samples are pair-major, P K of them.

    samples: answers or images; rewards, advantages: [P, K] float64, the pair weight not yet applied.
    terms: what each reward of a sum gave, by name, [P, K] float64, its weight not applied; one when there is no sum.
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


@dataclass(frozen=True, kw_only=True)
class RolloutBatch:
    """All that one step learns from. weights: [P] float64 pair weights w_p."""

    pairs: Sequence[UGPair]
    weights: Tensor
    understanding: TaskRollouts
    generation: TaskRollouts

    def task(self, task: Task) -> TaskRollouts:
        return self.understanding if task == "understanding" else self.generation

    def weighted_advantages(self, task: Task) -> Tensor:
        """[P K] w_p A, in the order of the task's trajectories (arXiv:2510.25682, section 2.2)."""
        return (self.weights.unsqueeze(-1) * self.task(task).advantages).flatten()

    @classmethod
    def join(cls, batches: Sequence[RolloutBatch]) -> RolloutBatch:
        """One batch of all the pairs: accumulating gradients over batches is learning from their union."""
        tasks = {
            task: TaskRollouts(
                trajectories=[t for batch in batches for t in batch.task(task).trajectories],
                samples=[s for batch in batches for s in batch.task(task).samples],
                terms={
                    name: torch.cat([batch.task(task).terms[name] for batch in batches])
                    for name in batches[0].task(task).terms
                },
                rewards=torch.cat([batch.task(task).rewards for batch in batches]),
                advantages=torch.cat([batch.task(task).advantages for batch in batches]),
            )
            for task in TASKS
        }
        return cls(
            pairs=[pair for batch in batches for pair in batch.pairs],
            weights=torch.cat([batch.weights for batch in batches]),
            understanding=tasks["understanding"],
            generation=tasks["generation"],
        )


class Scoring:
    """Rewards at work: in a thread of their own while an accelerator samples on, at once on a CPU, which the
    two would have to share. One thread, so that rewards meet their batches in order."""

    def __init__(self, device: torch.device) -> None:
        self._pool = None if device.type == "cpu" else ThreadPoolExecutor(max_workers=1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def submit(self, score: Callable[[], Result]) -> Callable[[], Result]:
        """Start ``score``; what is returned waits for its result, or raises what it raised."""
        if self._pool is not None:
            return self._pool.submit(score).result
        result = score()
        return lambda: result


def begin_rollouts(
    policy: UnifiedPolicy,
    pairs: Sequence[UGPair],
    rollout: RolloutSettings,
    rewards: Rewards,
    scoring: Scoring,
    *,
    seed: int,
    image_folder: Path,
    pair_weight_mode: PairWeight = "sqrt",
    std_eps: float = 1e-4,
) -> Callable[[], RolloutBatch]:
    """Sample K_u answers and K_g images for each pair and start scoring them.

    What is returned waits for the rewards and forms the advantages. image_folder: what the pairs' image paths
    are relative to. Raises ValueError when an image does not open, and, then or later, RewardError when a
    reward fails.
    """
    questions = [pair.understand_ann for pair in pairs]
    prompts = [pair.generate_ann for pair in pairs]
    with torch.no_grad():
        answers, drawings = policy.sample(
            TextSampling(
                images=[load_pair_image(image_folder / record.image_path) for record in questions],
                questions=[record.question for record in questions],
                rollouts=rollout.understanding,
                temperature=rollout.temperature,
                max_new_tokens=rollout.max_new_tokens,
                seed=derive_seed(seed, 0),
            ),
            ImageSampling(
                prompts=[record.prompt for record in prompts],
                rollouts=rollout.generation,
                temperature=rollout.temperature,
                guidance=rollout.guidance,
                branch=rollout.branch,
                seed=derive_seed(seed, 1),
            ),
        )
    texts = [trajectory for group in answers for trajectory in group]
    images = [trajectory for group in drawings for trajectory in group]
    replies = [text.text for text in texts]
    understanding = scoring.submit(
        lambda: _scored(texts, replies, questions, rewards, "understanding", std_eps)
    )
    pictures = policy.decode_images(images)
    generation = scoring.submit(lambda: _scored(images, pictures, prompts, rewards, "generation", std_eps))
    similarities = [1.0 if pair.kind == "aligned" else pair.similarity for pair in pairs]

    def finish() -> RolloutBatch:
        return RolloutBatch(
            pairs=list(pairs),
            weights=pair_weight(torch.tensor(similarities, dtype=torch.float64), pair_weight_mode),
            understanding=understanding(),
            generation=generation(),
        )

    return finish


def rollout_batch(
    policy: UnifiedPolicy,
    pairs: Sequence[UGPair],
    rollout: RolloutSettings,
    rewards: Rewards,
    *,
    seed: int,
    image_folder: Path,
    pair_weight_mode: PairWeight = "sqrt",
    std_eps: float = 1e-4,
) -> RolloutBatch:
    """``begin_rollouts`` and wait for its rewards."""
    with Scoring(policy.device) as scoring:
        finish = begin_rollouts(
            policy,
            pairs,
            rollout,
            rewards,
            scoring,
            seed=seed,
            image_folder=image_folder,
            pair_weight_mode=pair_weight_mode,
            std_eps=std_eps,
        )
        return finish()


def load_pair_image(path: Path) -> Image.Image:
    """The image as RGB, wholly read. Raises ImageError naming a file that is missing or broken."""
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
    given = torch.stack(list(terms.values()))
    weight = torch.tensor([term.weight for term in terms_of(reward)], dtype=torch.float64)
    return TaskRollouts(
        trajectories=trajectories,
        samples=samples,
        terms=terms,
        rewards=weighted_sum(given, weight),
        advantages=combined_advantages(given, weight, rewards.normalise, std_eps),
    )

"""Sampling and scoring the rollouts of a batch of pairs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar, get_args

import torch
from PIL import Image

from pairuni.config import PairWeight, RewardNormalisation, RewardSettings, RolloutSettings
from pairuni.io.images import ImageError, load_image
from pairuni.pairgrpo.advantages import combined_advantages, pair_weight, weighted_sum
from pairuni.pairgrpo.batch import RolloutBatch, TaskRollouts
from pairuni.pairgrpo.resampling import resample
from pairuni.policies.policy import UnifiedPolicy
from pairuni.policies.requests import ImageSampling, QuestionImages, TextSampling
from pairuni.policies.trajectories import ImageTrajectory, TextTrajectory, Trajectory
from pairuni.records import TASKS, Annotation, Task, UGPair
from pairuni.rewards.registry import image_reward, text_reward
from pairuni.rewards.reward import ImageReward, Reward, TextReward
from pairuni.rewards.weighted import scores_by_term, terms_of
from pairuni.training.seeding import derive_seed

Result = TypeVar("Result")


class SamplingError(RuntimeError):
    """A policy sampled from predictions that are not finite, as those of weights that have diverged."""


@dataclass(frozen=True, kw_only=True)
class Rewards:
    """The reward of each task, which may be a weighted sum.

    understanding: scores answers. generation: scores images. normalise: how the terms of a sum become advantages, see
    ``combined_advantages``. timeout: seconds for a batch; None waits without limit.

    Raises ValueError for something else, such as the name of a reward.
    """

    understanding: TextReward
    generation: ImageReward
    normalise: RewardNormalisation = "sum"
    timeout: float | None = None

    def __post_init__(self) -> None:
        for task in TASKS:
            reward = self.task(task)
            named = isinstance(getattr(reward, "name", None), str)
            if isinstance(reward, type) or not callable(reward) or not named:
                maker = "text_reward" if task == "understanding" else "image_reward"
                raise ValueError(
                    f"the {task} reward must be an object with `name`, a str, and `__call__`, not {reward!r:.80}; "
                    f"pairuni.{maker} makes one from a name"
                )
        if self.normalise not in get_args(RewardNormalisation):
            known = ", ".join(map(repr, get_args(RewardNormalisation)))
            raise ValueError(f"normalise is {self.normalise!r}, but must be one of {known}")

    @classmethod
    def from_settings(cls, settings: RewardSettings) -> Self:
        """The rewards that ``settings`` names. Raises ValueError listing the known ones if a name is unknown."""
        return cls(
            understanding=text_reward(settings.understanding, settings),
            generation=image_reward(settings.generation, settings),
            normalise=settings.normalise,
            timeout=settings.timeout,
        )

    def task(self, task: Task) -> Reward:
        """The reward of ``task``."""
        return self.understanding if task == "understanding" else self.generation


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
    tasks: Sequence[Task] = TASKS,
    first_prompt: int = 0,
    pair_weight_mode: PairWeight = "sqrt",
    std_eps: float = 1e-4,
    unified_reward: float | None = None,
    resampled: Sequence[Task] = TASKS,
) -> Callable[[], RolloutBatch]:
    """Sample K_u answers and K_g images for each pair and start scoring them.

    The returned function waits for the rewards and computes the advantages. image_folder: what the pairs' image
    paths are relative to. tasks: those to sample; the rollouts of a task do not depend on whether the other one is
    sampled too. first_prompt: place of the first pair in its batch, if these pairs are a part of one.
    unified_reward: one advantage for both tasks, see ``unified_rewards``; None is the method's own advantages.
    resampled: the tasks whose groups are sampled again, see ``RolloutSettings.resample``.
    Raises ValueError if an image does not open, SamplingError if sampled log-probs are not finite and, now or later,
    RewardError if a reward fails.
    """
    begin = partial(_begin, policy, rollout, rewards, scoring, image_folder, std_eps)

    def completed(batch: RolloutBatch) -> RolloutBatch:
        return batch if unified_reward is None else batch.unified(unified_reward, std_eps)

    first_attempt = begin(pairs, tasks, seed, first_prompt)
    similarities = [1.0 if pair.kind == "aligned" else pair.similarity for pair in pairs]

    def finish() -> RolloutBatch:
        batch = RolloutBatch(
            pairs=list(pairs),
            weights=pair_weight(torch.tensor(similarities, dtype=torch.float64), pair_weight_mode),
            rollouts={task: wait() for task, wait in first_attempt.items()},
        )
        return resample(
            completed(batch),
            rollout.resample,
            [task for task in tasks if task in resampled],
            lambda again, task, seed, first: begin(again, [task], seed, first)[task],
            completed,
            seed=seed,
            first_prompt=first_prompt,
        )

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


def _begin(
    policy: UnifiedPolicy,
    rollout: RolloutSettings,
    rewards: Rewards,
    scoring: Scoring,
    image_folder: Path,
    std_eps: float,
    pairs: Sequence[UGPair],
    tasks: Sequence[Task],
    seed: int,
    first_prompt: int,
) -> dict[Task, Callable[[], TaskRollouts]]:
    """Sample groups and start scoring them; a function of each task waits for its rollouts."""
    answers, images = _sample(policy, pairs, rollout, tasks, seed, image_folder, first_prompt)
    _check_finite("understanding", answers)
    _check_finite("generation", images)
    scored: dict[Task, Callable[[], TaskRollouts]] = {}
    if "understanding" in tasks:
        texts = [answer.text for answer in answers]
        questions = [pair.understand_ann for pair in pairs]
        scored["understanding"] = scoring.submit(
            lambda: _scored(answers, texts, questions, rewards, "understanding", std_eps)
        )
    if "generation" in tasks:
        decoded = policy.decode_images(images)
        prompts = [pair.generate_ann for pair in pairs]
        scored["generation"] = scoring.submit(
            lambda: _scored(images, decoded, prompts, rewards, "generation", std_eps)
        )
    return scored


def _check_finite(task: Task, trajectories: Sequence[Trajectory]) -> None:
    """Such samples are all alike, so their group would only look like one without an advantage."""
    if trajectories and not torch.cat([one.log_probs for one in trajectories]).isfinite().all():
        raise SamplingError(
            f"the log-probs of sampled {task} tokens are not finite: the weights have diverged, or the temperature or "
            "guidance is out of range; go back to an earlier checkpoint with a smaller pairgrpo.learning_rate"
        )


@torch.no_grad()
def _sample(
    policy: UnifiedPolicy,
    pairs: Sequence[UGPair],
    rollout: RolloutSettings,
    tasks: Sequence[Task],
    seed: int,
    image_folder: Path,
    first_prompt: int,
) -> tuple[list[TextTrajectory], list[ImageTrajectory]]:
    """All answers and all images, in the order of the pairs; none of a task that is not sampled."""
    texts = images = None
    if "understanding" in tasks:
        questions = [pair.understand_ann for pair in pairs]
        texts = TextSampling(
            images=load_question_images(image_folder, questions),
            questions=[record.question for record in questions],
            rollouts=rollout.understanding,
            temperature=rollout.temperature,
            top_k=rollout.top_k,
            top_p=rollout.top_p,
            max_new_tokens=rollout.max_new_tokens,
            seed=derive_seed(seed, 0),
            first_prompt=first_prompt,
        )
    if "generation" in tasks:
        images = ImageSampling(
            prompts=[pair.generate_ann.prompt for pair in pairs],
            rollouts=rollout.generation,
            temperature=rollout.temperature,
            top_k=rollout.top_k,
            top_p=rollout.top_p,
            guidance=rollout.guidance,
            branch=rollout.branch,
            seed=derive_seed(seed, 1),
            first_prompt=first_prompt,
        )
    if texts is not None and images is not None:
        answer_groups, image_groups = policy.sample(texts, images)
    else:
        answer_groups = [] if texts is None else policy.sample_text(texts)
        image_groups = [] if images is None else policy.sample_images(images)
    return [one for group in answer_groups for one in group], [one for group in image_groups for one in group]


def load_question_images(folder: Path, questions: Sequence[Annotation]) -> list[QuestionImages]:
    """What each question shows; an image that several show is loaded once. Raises as ``load_pair_image`` does."""
    loaded = {
        path: load_pair_image(folder / path)
        for path in dict.fromkeys(path for record in questions for path in record.image_paths)
    }
    shown = [[loaded[path] for path in record.image_paths] for record in questions]
    return [images[0] if len(images) == 1 else images for images in shown]


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

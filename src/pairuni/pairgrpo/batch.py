"""Rollouts of a batch of pairs, and the numbers of them that all ranks share.

A step rolls out both tasks or one of them: a batch has rollouts of the tasks that it names, and of no other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pairuni.distributed.world import World
from pairuni.pairgrpo.advantages import group_advantages, unified_rewards
from pairuni.policies.trajectories import TextTrajectory, Trajectory
from pairuni.records import Task, UGPair


@dataclass(frozen=True)
class Discarded:
    """Groups that were sampled and are not trained on, because their rewards were all equal: numbers and tokens."""

    groups: int = 0
    sampled_tokens: int = 0
    prompt_tokens: int = 0

    def __add__(self, other: Discarded) -> Discarded:
        return Discarded(
            self.groups + other.groups,
            self.sampled_tokens + other.sampled_tokens,
            self.prompt_tokens + other.prompt_tokens,
        )


@dataclass(frozen=True, kw_only=True)
class TaskRollouts:
    """P groups of K trajectories of one task; trajectories and samples are in pair-major order, P K of them.

    samples: answers or images; rewards, advantages: [P, K] float64, without the pair weight. terms: scores by each
    reward of a sum, by name, [P, K] float64, without its weight; a single entry if there is no sum. discarded: what was
    sampled besides. first_rewards: [P, K] rewards of the first attempts, None if ``rewards`` are theirs.
    """

    trajectories: Sequence[Trajectory]
    samples: Sequence[Any]
    terms: Mapping[str, Tensor]
    rewards: Tensor
    advantages: Tensor
    discarded: Discarded = Discarded()
    first_rewards: Tensor | None = None

    @property
    def rewards_at_first(self) -> Tensor:
        """[P, K] rewards of the first attempts."""
        return self.rewards if self.first_rewards is None else self.first_rewards

    @property
    def group_size(self) -> int:
        return self.rewards.shape[1]

    @property
    def numbers(self) -> TaskNumbers:
        return TaskNumbers(
            terms=self.terms,
            rewards=self.rewards,
            advantages=self.advantages,
            decisions=torch.tensor([one.decisions for one in self.trajectories]),
            sampled_tokens=torch.tensor([one.sampled_tokens for one in self.trajectories]),
            # images always have all their tokens: only text can be truncated
            unfinished=[not one.finished for one in self.trajectories if isinstance(one, TextTrajectory)],
            prompt_tokens=sum(one.prompt_tokens for one in self.trajectories),
            discarded=self.discarded,
            first_rewards=self.rewards_at_first,
        )

    def groups(self, places: Sequence[int]) -> TaskRollouts:
        """Those of these pairs alone; earlier attempts are left out."""
        size = self.group_size
        rows = [place * size + rollout for place in places for rollout in range(size)]
        chosen = list(places)
        return TaskRollouts(
            trajectories=[self.trajectories[row] for row in rows],
            samples=[self.samples[row] for row in rows],
            terms={name: scores[chosen] for name, scores in self.terms.items()},
            rewards=self.rewards[chosen],
            advantages=self.advantages[chosen],
        )

    def with_groups(self, places: Sequence[int], others: TaskRollouts) -> TaskRollouts:
        """The same with the groups of these pairs replaced, and counted as discarded."""
        count = len(self.rewards)
        order = list(range(count))
        for number, place in enumerate(places):
            order[place] = count + number
        old = self.groups(places).numbers
        gone = Discarded(len(places), int(old.sampled_tokens.sum()), old.prompt_tokens)
        both = TaskRollouts.join([self, others])
        return replace(
            both.groups(order), discarded=both.discarded + gone, first_rewards=self.rewards_at_first
        )

    @classmethod
    def join(cls, parts: Sequence[TaskRollouts]) -> TaskRollouts:
        return cls(
            trajectories=[trajectory for part in parts for trajectory in part.trajectories],
            samples=[sample for part in parts for sample in part.samples],
            terms={name: torch.cat([part.terms[name] for part in parts]) for name in parts[0].terms},
            rewards=torch.cat([part.rewards for part in parts]),
            advantages=torch.cat([part.advantages for part in parts]),
            discarded=sum((part.discarded for part in parts), Discarded()),
            first_rewards=torch.cat([part.rewards_at_first for part in parts]),
        )


@dataclass(frozen=True, kw_only=True)
class RolloutBatch:
    """Pairs with their rollouts of one task or both. weights: [P] float64 pair weights w_p."""

    pairs: Sequence[UGPair]
    weights: Tensor
    rollouts: Mapping[Task, TaskRollouts]

    @property
    def tasks(self) -> list[Task]:
        """The tasks that were rolled out."""
        return list(self.rollouts)

    def task(self, task: Task) -> TaskRollouts:
        return self.rollouts[task]

    def weighted_advantages(self, task: Task) -> Tensor:
        """Eq. 2: [P K] w_p A, in the order of the task's trajectories."""
        return (self.weights.unsqueeze(-1) * self.task(task).advantages).flatten()

    def unified(self, weight: float, std_eps: float) -> RolloutBatch:
        """The batch with the advantages of ``unified_rewards`` in both tasks."""
        rewards = unified_rewards(self.task("understanding").rewards, self.task("generation").rewards, weight)
        advantages = group_advantages(rewards, std_eps)
        rollouts = {task: replace(one, advantages=advantages) for task, one in self.rollouts.items()}
        return replace(self, rollouts=rollouts)

    @classmethod
    def join(cls, batches: Sequence[RolloutBatch]) -> RolloutBatch:
        """One batch of all pairs; accumulating gradients over batches equals an update on their union."""
        return cls(
            pairs=[pair for batch in batches for pair in batch.pairs],
            weights=torch.cat([batch.weights for batch in batches]),
            rollouts={
                task: TaskRollouts.join([batch.task(task) for batch in batches]) for task in batches[0].tasks
            },
        )


@dataclass(frozen=True, kw_only=True)
class TaskNumbers:
    """What the objective and the metrics need of one task's rollouts besides the trajectories.

    terms, rewards, advantages: [P, K] as in ``TaskRollouts``. decisions, sampled_tokens: [P K] of each trajectory.
    unfinished: for each answer, whether it was cut off; empty for images. prompt_tokens: of all trajectories.
    discarded: see ``TaskRollouts``. first_rewards: [P, K] rewards of the first attempts.
    """

    terms: Mapping[str, Tensor]
    rewards: Tensor
    advantages: Tensor
    decisions: Tensor
    sampled_tokens: Tensor
    unfinished: Sequence[bool]
    prompt_tokens: int
    discarded: Discarded
    first_rewards: Tensor

    @classmethod
    def join(cls, parts: Sequence[TaskNumbers]) -> TaskNumbers:
        return cls(
            terms={name: torch.cat([part.terms[name] for part in parts]) for name in parts[0].terms},
            rewards=torch.cat([part.rewards for part in parts]),
            advantages=torch.cat([part.advantages for part in parts]),
            decisions=torch.cat([part.decisions for part in parts]),
            sampled_tokens=torch.cat([part.sampled_tokens for part in parts]),
            unfinished=[one for part in parts for one in part.unfinished],
            prompt_tokens=sum(part.prompt_tokens for part in parts),
            discarded=sum((part.discarded for part in parts), Discarded()),
            first_rewards=torch.cat([part.first_rewards for part in parts]),
        )


@dataclass(frozen=True)
class StepNumbers:
    """The numbers of a step's rollouts on all ranks, in the order of the step's pairs.

    weights: [P] pair weights. by_task: those of the tasks that were rolled out. first_pair: place of this rank's first
    pair among them.
    """

    weights: Tensor
    by_task: Mapping[Task, TaskNumbers]
    first_pair: int = 0

    @property
    def tasks(self) -> list[Task]:
        """The tasks that were rolled out."""
        return list(self.by_task)

    def task(self, task: Task) -> TaskNumbers:
        return self.by_task[task]

    @classmethod
    def gather(cls, batch: RolloutBatch, world: World) -> StepNumbers:
        """Those of each rank's ``batch``. An exchange."""
        own = {task: rollouts.numbers for task, rollouts in batch.rollouts.items()}
        parts = world.gather((batch.weights, own))
        return cls(
            weights=torch.cat([weights for weights, _ in parts]),
            by_task={task: TaskNumbers.join([numbers[task] for _, numbers in parts]) for task in own},
            first_pair=sum(len(weights) for weights, _ in parts[: world.rank]),
        )

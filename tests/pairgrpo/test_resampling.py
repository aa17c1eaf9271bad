"""Groups of equal rewards, sampled again: against a loop over groups and attempts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from test_trainer import rows, same_run, trainer

from fake_policy import FakePolicy
from pair_batches import ROLLOUT, make_pairs, run_settings
from pairuni.config import RolloutSettings
from pairuni.pairgrpo.batch import Discarded
from pairuni.pairgrpo.rollout import Rewards, rollout_batch
from pairuni.policies.requests import ImageSampling, TextSampling
from pairuni.policies.trajectories import Trajectory
from pairuni.records import TASKS, Annotation, Task, UGPair
from pairuni.training.seeding import derive_seed

NEVER = "2"
"""The pair whose rewards are equal whatever is sampled."""
SEED = 7


class Rarely:
    """1 for a rare sample, else 0: most groups of few samples are flat at first."""

    name = "rarely"

    def __init__(self, task: Task) -> None:
        self.task = task

    def __call__(self, records: Sequence[Annotation], samples: Sequence[Any]) -> list[float]:
        return [self.score(record, sample) for record, sample in zip(records, samples, strict=True)]

    def score(self, record: Annotation, sample: Any) -> float:
        if self.task == "understanding":
            return float(NEVER not in record.question and sample.startswith("B"))
        red = sum(pixel == (255, 0, 0) for pixel in sample.getdata())
        return float(NEVER not in record.prompt and red >= 2)


RARE = Rewards(understanding=Rarely("understanding"), generation=Rarely("generation"))
SMALL = ROLLOUT.model_copy(update={"understanding": 2, "generation": 2})


def group_of(
    policy: FakePolicy, pair: UGPair, task: Task, rollout: RolloutSettings, seed: int, place: int
) -> tuple[list[Trajectory], list[Any]]:
    """A group as the request for it alone gives it: trajectories and samples."""
    shared = {"rollouts": 2, "temperature": rollout.temperature, "first_prompt": place}
    if task == "understanding":
        (texts,) = policy.sample_text(
            TextSampling(
                images=[Image.new("RGB", (4, 4))],
                questions=[pair.understand_ann.question],
                max_new_tokens=rollout.max_new_tokens,
                seed=derive_seed(seed, 0),
                **shared,
            )
        )
        return list(texts), [one.text for one in texts]
    (images,) = policy.sample_images(
        ImageSampling(
            prompts=[pair.generate_ann.prompt],
            guidance=rollout.guidance,
            seed=derive_seed(seed, 1),
            **shared,
        )
    )
    return list(images), policy.decode_images(images)


def literal(
    policy: FakePolicy, pairs: list[UGPair], task: Task, attempts: int, first: int = 0
) -> tuple[list[list[int]], list[list[float]], Discarded]:
    """Tokens and rewards of each group, and what was discarded."""
    tokens, rewards, gone = [], [], Discarded()
    for place, pair in enumerate(pairs, start=first):
        record = pair.understand_ann if task == "understanding" else pair.generate_ann
        for attempt in range(attempts + 1):
            seed = SEED if attempt == 0 else derive_seed(SEED, 2, attempt)
            trajectories, samples = group_of(policy, pair, task, SMALL, seed, place)
            scores = [Rarely(task).score(record, sample) for sample in samples]
            if min(scores) < max(scores) or attempt == attempts:
                break
            gone += Discarded(
                1,
                sum(one.sampled_tokens for one in trajectories),
                sum(one.prompt_tokens for one in trajectories),
            )
        tokens += [one.tokens.tolist() for one in trajectories]  # type: ignore[attr-defined]
        rewards.append(scores)
    return tokens, rewards, gone


def sampled(folder: Path, attempts: int, **options: Any) -> Any:
    pairs = make_pairs(folder)[options.pop("places", slice(None))]
    rollout = SMALL.model_copy(update={"resample": attempts})
    options = {"seed": SEED, "image_folder": folder} | options
    return rollout_batch(FakePolicy(), pairs, rollout, RARE, **options)


@pytest.mark.parametrize("attempts", [0, 1, 2, 6])
def test_each_group_is_sampled_until_its_rewards_differ(tmp_path: Path, attempts: int) -> None:
    batch = sampled(tmp_path, attempts)
    for task in TASKS:
        tokens, rewards, gone = literal(FakePolicy(), make_pairs(tmp_path), task, attempts)
        found = batch.task(task)
        assert [one.tokens.tolist() for one in found.trajectories] == tokens
        assert found.rewards.tolist() == rewards
        assert found.discarded == gone
        _, first, _ = literal(FakePolicy(), make_pairs(tmp_path), task, 0)
        assert found.rewards_at_first.tolist() == first
        assert found.advantages.any(dim=1).tolist() == [min(row) < max(row) for row in rewards]
        assert attempts <= gone.groups  # the group that never has spread uses all attempts
        assert len(found.samples) == 10


def test_the_groups_of_a_share_are_those_of_the_whole(tmp_path: Path) -> None:
    whole, part = sampled(tmp_path, 3), sampled(tmp_path, 3, places=slice(1, 4), first_prompt=1)
    for task in TASKS:
        assert part.task(task).rewards.equal(whole.task(task).rewards[1:4])
        tokens = [[one.tokens.tolist() for one in batch.task(task).trajectories] for batch in (whole, part)]
        assert tokens[1] == tokens[0][2:8]


def test_only_the_named_tasks_are_sampled_again(tmp_path: Path) -> None:
    batch = sampled(tmp_path, 3, resampled=["generation"])
    assert batch.task("understanding").discarded == Discarded()
    assert batch.task("generation").discarded.groups > 0


def test_a_unified_reward_samples_both_sides_of_a_flat_pair_again(tmp_path: Path) -> None:
    first, last = (sampled(tmp_path, attempts, unified_reward=0.5, seed=1) for attempts in (0, 4))
    flat = ~first.task("generation").advantages.any(dim=1)
    assert flat.any()
    assert not flat.all()
    for task in TASKS:
        changed = [
            any(
                not one.tokens.equal(two.tokens)
                for one, two in zip(
                    first.task(task).trajectories[2 * pair : 2 * pair + 2],
                    last.task(task).trajectories[2 * pair : 2 * pair + 2],
                    strict=True,
                )
            )
            for pair in range(5)
        ]
        assert changed == flat.tolist()
    advantages = [last.task(task).advantages for task in TASKS]
    assert advantages[0].equal(advantages[1])
    assert (~advantages[0].any(dim=1)).sum() < flat.sum()
    assert last.task("understanding").discarded.groups == last.task("generation").discarded.groups


def settings(resample: int, **changes: Any) -> Any:
    grpo = {"steps": 4, "pairs_per_batch": 2, "batches_per_step": 2, "learning_rate": 0.05}
    return run_settings(rollout=SMALL.model_dump() | {"resample": resample}, pairgrpo=grpo | changes)


def test_a_run_logs_every_rollout_that_it_samples(tmp_path: Path) -> None:
    class Counting(FakePolicy):
        tokens = 0

        def sample_text(self, request: Any) -> Any:
            return self.counted(super().sample_text(request))

        def sample_images(self, request: Any) -> Any:
            return self.counted(super().sample_images(request))

        def counted(self, groups: Any) -> Any:
            for group in groups:
                self.tokens += sum(one.sampled_tokens + one.prompt_tokens for one in group)
                totals.append(len(group))
            return groups

    totals: list[int] = []
    policy = Counting()
    trainer(tmp_path, tmp_path / "run", settings(3), policy=policy, rewards=RARE).run()
    found = rows(tmp_path / "run")
    assert sum(row[f"{task}/rollouts"] for row in found for task in TASKS) == sum(totals)
    assert sum(row[f"{task}/resampled"] for row in found for task in TASKS) == len(totals) - 4 * 4 * 2 > 8
    assert found[-1]["num_tokens"] == policy.tokens
    trainer(tmp_path, tmp_path / "plain", settings(0), policy=Counting(), rewards=RARE).run()
    plain = rows(tmp_path / "plain")
    assert not any("resampled" in name or "rollouts" in name for row in plain for name in row)
    for task in TASKS:
        # the two policies are equal until their first update
        assert found[0][f"{task}/first_reward"] == plain[0][f"{task}/reward"] != found[0][f"{task}/reward"]
        name = f"{task}/frac_reward_zero_std"
        assert sum(row[name] for row in found) < sum(row[name] for row in plain)


def test_a_task_without_weight_is_not_sampled_again(tmp_path: Path) -> None:
    trainer(tmp_path, tmp_path / "run", settings(3, generation_weight=0.0), rewards=RARE).run()
    assert sum(row["generation/resampled"] for row in rows(tmp_path / "run")) == 0
    assert sum(row["understanding/resampled"] for row in rows(tmp_path / "run")) > 0


@pytest.mark.parametrize("changes", [{}, {"tasks": "alternating"}], ids=str)
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, changes: dict[str, Any]) -> None:
    trainer(tmp_path, tmp_path / "full", settings(3, **changes), rewards=RARE).run()
    trainer(tmp_path, tmp_path / "cut", settings(3, **changes, steps=2), rewards=RARE).run()
    trainer(tmp_path, tmp_path / "cut", settings(3, **changes), rewards=RARE).run(resume=True)
    same_run(tmp_path / "full", tmp_path / "cut")

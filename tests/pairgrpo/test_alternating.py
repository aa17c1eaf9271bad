"""Training that takes the tasks in turn, against updates made by hand and against joint training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fake_policy import FakePolicy
from pair_batches import REWARDS, ROLLOUT, make_pairs, run_settings
from pairuni.config import RunSettings
from pairuni.pairgrpo.rollout import Rewards, rollout_batch
from pairuni.pairgrpo.trainer import Trainer
from pairuni.pairgrpo.turns import turn_of
from pairuni.records import TASKS, Task, UGPair
from pairuni.report import write_report
from pairuni.runs.metrics import MetricsLog
from pairuni.training.checkpoint import list_checkpoints, load_checkpoint
from pairuni.training.seeding import derive_seed, shuffled_indices
from reference.pairgrpo_equations import Side, literal_adamw, task_objective, weight

TIMES = {"step_time", "rollout_time", "update_time", "tokens_per_second"}


def settings_of(**grpo: Any) -> RunSettings:
    base = {"steps": 4, "pairs_per_batch": 3, "learning_rate": 0.05, "tasks": "alternating"}
    return run_settings(pairgrpo=base | grpo, logging={"samples_every": 4})


def train(
    folder: Path,
    out: Path,
    settings: RunSettings,
    policy: FakePolicy | None = None,
    rewards: Rewards = REWARDS,
    **options: Any,
) -> FakePolicy:
    policy = policy or FakePolicy(torch.float64)
    trainer = Trainer(settings, policy, make_pairs(folder), rewards, out, image_folder=folder)
    trainer.run(**options)
    return policy


def test_turns() -> None:
    joint = [turn_of(step, "joint") for step in (1, 2, 3)]
    assert [(list(turn.tasks), turn.round, list(turn.steps)) for turn in joint] == [
        (list(TASKS), 1, [1]),
        (list(TASKS), 2, [2]),
        (list(TASKS), 3, [3]),
    ]
    turns = [turn_of(step, "alternating") for step in (1, 2, 3, 4, 5)]
    assert [(list(turn.tasks), turn.round, list(turn.steps)) for turn in turns] == [
        (["understanding"], 1, [1, 2]),
        (["generation"], 1, [1, 2]),
        (["understanding"], 2, [3, 4]),
        (["generation"], 2, [3, 4]),
        (["understanding"], 3, [5, 6]),
    ]


@pytest.mark.parametrize("options", [{}, {"generation_weight": 0.5, "pair_weight": "linear"}], ids=str)
def test_four_steps_are_two_rounds_of_two_updates_by_hand(tmp_path: Path, options: dict[str, Any]) -> None:
    """Odd steps understanding, even steps generation, on the same pairs; each samples from the weights before it."""
    settings = settings_of(max_grad_norm=1e9, **options)
    trained = train(tmp_path, tmp_path / "run", settings)
    grpo, pairs = settings.pairgrpo, make_pairs(tmp_path)
    hand = FakePolicy(torch.float64)
    parameters = dict(hand.train_only(settings.policy.trainable))
    moments: dict[str, dict[str, Tensor]] = {name: {} for name in parameters}
    updates = dict.fromkeys(parameters, 0)
    for number in (1, 2):
        places = shuffled_indices(len(pairs), start=3 * (number - 1), number=3, seed=settings.seed)
        for task in TASKS:
            hand.module.zero_grad()
            loss = -getattr(grpo, f"{task}_weight") * objective(
                hand, [pairs[place] for place in places], task, settings, number, tmp_path
            )
            loss.backward()
            with torch.no_grad():
                for name, parameter in parameters.items():
                    if parameter.grad is not None:  # the other task's table has none, and stays as it is
                        updates[name] += 1
                        new = literal_adamw(
                            parameter, parameter.grad, moments[name], updates[name], grpo.learning_rate
                        )
                        parameter.copy_(new)
    assert updates == {"words": 2, "cells": 2, "shared": 4}
    start = FakePolicy(torch.float64)
    for name, parameter in trained.module.named_parameters():
        expected = hand.module.get_parameter(name)
        torch.testing.assert_close(parameter, expected, rtol=1e-9, atol=1e-10, msg=name)
        assert torch.equal(parameter, start.module.get_parameter(name)) == (name == "frozen")


def objective(
    policy: FakePolicy, pairs: Sequence[UGPair], task: Task, settings: RunSettings, number: int, folder: Path
) -> Tensor:
    """The transcribed objective of one task, on what joint training would sample in step ``number``."""
    batch = rollout_batch(
        policy, pairs, ROLLOUT, REWARDS, seed=derive_seed(settings.seed, number, 0), image_folder=folder
    )
    rollouts, size, sides = batch.task(task), batch.task(task).group_size, []
    for p in range(len(pairs)):
        group = rollouts.trajectories[p * size : (p + 1) * size]
        log_probs = [list(policy.log_probs([one]).values[0]) for one in group]
        old = [[float(value.detach()) for value in row] for row in log_probs]
        sides.append(Side(log_probs=log_probs, old=old, rewards=rollouts.rewards[p].tolist()))
    grpo = settings.pairgrpo
    return task_objective(
        sides,
        [weight(pair.similarity, pair.kind == "aligned", grpo.pair_weight) for pair in pairs],
        guard=grpo.std_eps,
        clip_low=grpo.clip_low,
        clip_high=grpo.clip_high,
        beta=0.0,
        reduction=grpo.token_reduction,
    )


class RecordingPolicy(FakePolicy):
    """Keeps the requests and the tokens of every sample."""

    def __init__(self) -> None:
        super().__init__(torch.float64)
        self.texts: list[Any] = []
        self.images: list[Any] = []

    def sample_text(self, request: Any) -> Any:
        groups = super().sample_text(request)
        self.texts.append((request.questions, [[one.tokens.tolist() for one in group] for group in groups]))
        return groups

    def sample_images(self, request: Any) -> Any:
        groups = super().sample_images(request)
        self.images.append((request.prompts, [[one.tokens.tolist() for one in group] for group in groups]))
        return groups


@pytest.mark.parametrize("batches", [1, 2])
def test_twice_as_many_steps_use_the_pairs_and_rollouts_of_joint_training(
    tmp_path: Path, batches: int
) -> None:
    """With a learning rate that changes no weight, the samples are the same; nothing is sampled in vain."""
    options = {"pairs_per_batch": 2, "batches_per_step": batches, "learning_rate": 1e-30}
    joint, alternating = RecordingPolicy(), RecordingPolicy()
    train(tmp_path, tmp_path / "joint", settings_of(steps=4, tasks="joint", **options), joint)
    train(tmp_path, tmp_path / "turns", settings_of(steps=8, **options), alternating)
    assert len(joint.texts) == len(joint.images) == 4 * batches
    assert alternating.texts == joint.texts
    assert alternating.images == joint.images
    rows, joint_rows = (MetricsLog(tmp_path / run / "metrics.jsonl").rows() for run in ("turns", "joint"))
    assert [row["epoch"] for row in rows][1::2] == pytest.approx([row["epoch"] for row in joint_rows])
    assert [row["num_tokens"] for row in rows][1::2] == [row["num_tokens"] for row in joint_rows]
    for number, row in enumerate(joint_rows):
        for task, turn in zip(TASKS, rows[2 * number : 2 * number + 2], strict=True):
            assert turn[f"{task}/reward"] == row[f"{task}/reward"]
            assert turn["reward"] == row[f"{task}/reward"]


def test_a_step_scores_and_logs_its_own_task_only(tmp_path: Path) -> None:
    scored: list[Task] = []

    class Recorded:
        name = "recorded"

        def __init__(self, task: Task) -> None:
            self.task = task

        def __call__(self, records: Any, samples: Any) -> list[float]:
            scored.append(self.task)
            return REWARDS.task(self.task)(records, samples)

    out = tmp_path / "run"
    rewards = Rewards(understanding=Recorded("understanding"), generation=Recorded("generation"))
    train(tmp_path, out, settings_of(steps=6, beta=0.1), rewards=rewards)
    assert scored == 3 * list(TASKS)
    for row in MetricsLog(out / "metrics.jsonl").rows():
        own, other = TASKS if row["step"] % 2 else reversed(TASKS)
        assert {f"{own}/reward", f"{own}/loss", f"{own}/kl", "reward", "grad_norm"} <= set(row)
        assert not any(key.startswith(f"{other}/") for key in row)
        assert row["loss"] == row[f"{own}/loss"]

    samples = MetricsLog(out / "samples" / "samples.jsonl").rows()
    assert [row["step"] for row in samples] == 3 * [3] + 3 * [
        4
    ]  # of both tasks, although 3 is not a multiple of 4
    for row in samples:
        assert (len(row["answers"]), len(row["pictures"])) == ((5, 0) if row["step"] == 3 else (0, 4))
    assert [row["prompt"] for row in samples[:3]] == [row["prompt"] for row in samples[3:]]
    page = write_report(out).read_text()
    assert "Understanding reward over steps 1 to 5" in page
    assert "Generation reward over steps 2 to 6" in page
    shown = page[page.index('id="rollouts"') :]
    assert shown.count("step 3 · ") == shown.count("step 4 · ") == 3
    assert (shown.count("expected: "), shown.count("rollout for the prompt")) == (3, 3 * 4)


class NoisyPolicy(FakePolicy):
    """Also uses torch's global random generator, which a resume must restore."""

    def sample_images(self, request: Any) -> Any:
        torch.rand(())
        return super().sample_images(request)


class Killed(BaseException):
    """Stands for kill -9: nothing is saved after it."""


class Fatal:
    """Kills the run when it scores for the nth time."""

    name = "fatal"

    def __init__(self, task: Task, call: int) -> None:
        self.task, self.left = task, call

    def __call__(self, records: Any, samples: Any) -> list[float]:
        self.left -= 1
        if not self.left:
            raise Killed
        return REWARDS.task(self.task)(records, samples)


@pytest.mark.parametrize("killed_in_step", [1, 4, 5])
@pytest.mark.parametrize("options", [{}, {"beta": 0.1, "updates_per_step": 2}], ids=str)
def test_a_resumed_run_equals_an_uninterrupted_one(
    tmp_path: Path, killed_in_step: int, options: dict[str, Any]
) -> None:
    settings = settings_of(steps=6, **options).model_copy(
        update={"checkpoint": run_settings(checkpoint={"every": 1}).checkpoint}
    )
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    expected = train(tmp_path, whole, settings, NoisyPolicy(torch.float64))
    call = (killed_in_step + 1) // 2
    fatal: dict[str, Any] = {task: REWARDS.task(task) for task in TASKS}
    task: Task = "understanding" if killed_in_step % 2 else "generation"
    fatal[task] = Fatal(task, call)
    with pytest.raises(Killed):
        train(tmp_path, cut, settings, NoisyPolicy(torch.float64), Rewards(**fatal))
    assert [path.name for path in list_checkpoints(cut / "checkpoints")][-1:] == (
        [f"step-{killed_in_step - 1:06d}"] if killed_in_step > 1 else []
    )
    torch.manual_seed(99)
    resumed = train(tmp_path, cut, settings, NoisyPolicy(torch.float64), resume=True)
    for name, value in expected.module.state_dict().items():
        assert torch.equal(resumed.module.state_dict()[name], value), name
    first, second = (load_checkpoint(list_checkpoints(run / "checkpoints")[-1]) for run in (whole, cut))
    assert first.state == second.state
    for group, tensors in first.tensors.items():
        assert all(torch.equal(second.tensors[group][name], tensor) for name, tensor in tensors.items())
    rows = [
        [{key: value for key, value in row.items() if key not in TIMES} for row in MetricsLog(path).rows()]
        for path in (whole / "metrics.jsonl", cut / "metrics.jsonl")
    ]
    assert rows[0] == rows[1]
    logs = [run / "samples" / "samples.jsonl" for run in (whole, cut)]
    assert logs[0].read_text() == logs[1].read_text()


def test_a_run_does_not_resume_with_another_order_of_tasks(tmp_path: Path) -> None:
    train(tmp_path, tmp_path / "run", settings_of(steps=2))
    with pytest.raises(ValueError, match=r"pairgrpo\.tasks was alternating, is joint"):
        train(tmp_path, tmp_path / "run", settings_of(steps=4, tasks="joint"), resume=True)

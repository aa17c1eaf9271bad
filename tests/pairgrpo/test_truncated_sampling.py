"""A run whose rollouts are sampled with top-k and top-p."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_trainer import rows, same_run, trainer

from fake_policy import FakePolicy
from pair_batches import REWARDS, ROLLOUT, make_pairs, run_settings
from pairuni.pairgrpo.rollout import rollout_batch
from pairuni.policies.requests import CannotTruncate
from pairuni.records import TASKS

TRUNCATED = ROLLOUT.model_copy(update={"top_k": 3, "top_p": 0.8})


class Untruncated(FakePolicy):
    """Scores all tokens, whatever sampling kept."""

    def log_probs(self, trajectories: Any) -> Any:
        return super().log_probs([replace(one, kept=None) for one in trajectories])


def test_the_log_probs_of_a_run_are_those_of_what_was_sampled(tmp_path: Path) -> None:
    """Also in later updates of a step, when the weights are no longer those of sampling."""
    settings = run_settings(rollout=TRUNCATED.model_dump(), pairgrpo={"steps": 3, "updates_per_step": 2})
    trainer(tmp_path, tmp_path / "run", settings).run()
    trainer(tmp_path, tmp_path / "wrong", settings, policy=Untruncated()).run()
    for right, wrong in zip(rows(tmp_path / "run"), rows(tmp_path / "wrong"), strict=True):
        for task in TASKS:
            name = f"{task}/sampling/sampling_logp_difference/max"
            assert right[name] < 1e-6
            assert wrong[name] > 0.1


def test_both_tasks_are_truncated(tmp_path: Path) -> None:
    batch = rollout_batch(
        FakePolicy(), make_pairs(tmp_path), TRUNCATED, REWARDS, seed=1, image_folder=tmp_path
    )
    for task in TASKS:
        for one in batch.task(task).trajectories:
            assert one.kept.shape == (one.sampled_tokens, 1)  # type: ignore[attr-defined]


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    def settings(steps: int) -> Any:
        return run_settings(rollout=TRUNCATED.model_dump(), pairgrpo={"steps": steps, "learning_rate": 0.05})

    trainer(tmp_path, tmp_path / "full", settings(6)).run()
    trainer(tmp_path, tmp_path / "cut", settings(2)).run()
    trainer(tmp_path, tmp_path / "cut", settings(6)).run(resume=True)
    same_run(tmp_path / "full", tmp_path / "cut")


class Whole(FakePolicy):
    truncates = False


def test_a_policy_that_cannot_truncate_refuses(tmp_path: Path) -> None:
    said = (
        r"The policy fake cannot sample with top_k or top_p; set rollout\.top_k to 0 and rollout\.top_p to 1"
    )
    for changes in ({"top_k": 3}, {"top_p": 0.9}):
        settings = run_settings(rollout=ROLLOUT.model_dump() | changes)
        with pytest.raises(CannotTruncate, match=said):
            trainer(tmp_path, tmp_path / "run", settings, policy=Whole())
    trainer(tmp_path, tmp_path / "run", run_settings(), policy=Whole())

"""Warnings about a run that goes on: when they are raised, and when not."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from pairuni.pairgrpo.alarms import QUIET, Alarms

EVEN = [{"rollout": 2.0, "update": 1.0}] * 4


@pytest.fixture
def alarms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Alarms:
    free_space(monkeypatch, 10**12)
    caplog.set_level("WARNING", logger="pairuni")
    return Alarms(tmp_path, checkpoint_bytes=2 * 10**9)


def free_space(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**13, 0, free))


def row(
    step: int, *, drift: float = 1e-4, reward: float = 0.5, score: float | None = None
) -> dict[str, float]:
    values = {"step": float(step), "generation/reward": reward}
    values["generation/sampling/sampling_logp_difference/mean"] = drift
    return values if score is None else values | {"eval/generation": score}


def test_a_rank_that_is_slow_for_several_steps(alarms: Alarms, caplog: pytest.LogCaptureFixture) -> None:
    slow = [{"rollout": 2.0, "update": 4.0 if rank == 2 else 1.0} for rank in range(4)]
    for step in range(1, 5):
        alarms.after_step(row(step), slow)
    alarms.after_step(row(5), EVEN)
    for step in range(6, 10):
        alarms.after_step(row(step), slow)
    assert not caplog.messages
    for step in range(10, 10 + QUIET):
        alarms.after_step(row(step), slow)
    (said,) = caplog.messages
    assert said.startswith(
        "step 10: rank 2 is far slower than the others: its update took 4.0 seconds, the median"
    )
    alarms.after_step(row(10 + QUIET), slow)
    assert len(caplog.messages) == 2


def test_of_two_ranks_the_slower_one_is_named(alarms: Alarms, caplog: pytest.LogCaptureFixture) -> None:
    for step in range(1, 8):
        alarms.after_step(row(step), [{"rollout": 9.0}, {"rollout": 2.0}])
    (said,) = caplog.messages
    assert "rank 0 is far slower" in said


def test_short_steps_and_a_single_process_are_never_slow(
    alarms: Alarms, caplog: pytest.LogCaptureFixture
) -> None:
    for step in range(1, 20):
        alarms.after_step(row(step), [{"rollout": 0.01}, {"rollout": 0.09}])
        alarms.after_step(row(step), [{"rollout": 9.0}])
    assert not caplog.messages


def test_drift_of_sampling_and_replay(alarms: Alarms, caplog: pytest.LogCaptureFixture) -> None:
    alarms.remember([row(step, drift=1e-3) for step in range(1, 11)])
    alarms.after_step(row(11, drift=9e-3))
    alarms.after_step(row(12, drift=9.9e-3))
    assert not caplog.messages
    alarms.after_step(row(13, drift=0.02))
    (said,) = caplog.messages
    assert "log-probs of sampled generation tokens differ by 0.02 on average" in said
    assert "0.001 in the first steps" in said


def test_a_large_difference_from_the_start_is_no_drift(
    alarms: Alarms, caplog: pytest.LogCaptureFixture
) -> None:
    for step in range(1, 40):
        alarms.after_step(row(step, drift=0.05))
    assert not caplog.messages


def evaluated(alarms: Alarms, rewards: list[float], scores: list[float]) -> None:
    alarms.after_step(row(0, score=0.9) | {"generation/reward": None})  # type: ignore[arg-type]
    for index, (reward, score) in enumerate(zip(rewards, scores, strict=True)):
        alarms.after_step(row(2 * index + 1, reward=reward - 0.1))
        alarms.after_step(row(2 * index + 2, reward=reward + 0.1, score=score))


def test_reward_up_and_held_out_down(alarms: Alarms, caplog: pytest.LogCaptureFixture) -> None:
    evaluated(alarms, [0.4, 0.5, 0.6], [0.5, 0.45, 0.4])
    (said,) = caplog.messages
    assert said.startswith(
        "step 6: over the last 3 evaluations the generation reward rose from 0.400 to 0.600"
    )
    assert "held-out score fell from 0.500 to 0.400" in said


@pytest.mark.parametrize(
    ("rewards", "scores"),
    [
        ([0.4, 0.5], [0.5, 0.4]),
        ([0.4, 0.5, 0.6], [0.5, 0.4, 0.45]),
        ([0.6, 0.5, 0.4], [0.5, 0.4, 0.3]),
    ],
)
def test_no_alarm_without_a_trend(
    alarms: Alarms, caplog: pytest.LogCaptureFixture, rewards: list[float], scores: list[float]
) -> None:
    evaluated(alarms, rewards, scores)
    assert not caplog.messages


def test_a_nearly_full_disk(
    alarms: Alarms, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    free_space(monkeypatch, 6 * 10**9)
    alarms.after_step(row(1))
    assert not caplog.messages
    free_space(monkeypatch, 6 * 10**9 - 1)
    for step in range(2, 10):
        alarms.after_step(row(step))
    (said,) = caplog.messages
    assert "is nearly full: 6.0 GB are free, and 3 checkpoints need 6.0 GB" in said

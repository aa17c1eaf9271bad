"""What becomes of a training run when one of its ranks fails, is stopped or dies; and that it resumes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fake_policy import FakePolicy
from pair_batches import REWARDS, make_pairs, run_settings
from pairuni.distributed.strategy import Replicate
from pairuni.distributed.world import World
from pairuni.pairgrpo.held_out import HeldOutPairs
from pairuni.pairgrpo.rollout import Rewards
from pairuni.pairgrpo.trainer import RunResult, Trainer
from pairuni.records import Annotation
from pairuni.runs.folder import RunFolder
from pairuni.runs.metrics import MetricsLog
from pairuni.training.checkpoint import list_checkpoints
from ranks import Outcome, run_ranks, values_of

STEPS = 5


@dataclass(frozen=True)
class Fault:
    """What happens on ``rank`` in its rewards of step ``step``."""

    kind: str
    rank: int = 1
    step: int = 4


class FaultyAnswers:
    name = "faulty"

    def __init__(self, fault: Fault | None, policy: FaultyPolicy, folder: Path) -> None:
        self.fault, self.policy, self.folder = fault, policy, folder
        self.calls = 0

    def __call__(self, records: Sequence[Annotation], samples: Sequence[str]) -> list[float]:
        self.calls += 1
        if self.fault is not None and self.calls == self.fault.step:
            self.act(self.fault.kind)
        return REWARDS.understanding(records, samples)

    def act(self, kind: str) -> None:
        if kind == "raises":
            raise ConnectionError("reward server is gone")
        if kind == "nan":
            self.policy.spoiled = True
        if kind == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "hangs":
            time.sleep(100)
        if kind == "stopped":
            os.kill(os.getpid(), signal.SIGTERM)
        if kind == "stopped at once":
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        if kind == "image":
            for file in self.folder.glob("*.png"):
                file.unlink()


class FaultyPolicy(FakePolicy):
    spoiled = False

    def sample_text(self, request: Any) -> Any:
        return super().sample_text(replace(request, temperature=request.temperature or 1e-3))

    def log_probs(self, trajectories: Any) -> Any:
        replay = super().log_probs(trajectories)
        if self.spoiled:
            replay.values.register_hook(lambda gradient: gradient * float("nan"))
        return replay


def train(
    world: World, folder: Path, out: Path, fault: Fault | None = None, *, resume: bool = False, every: int = 0
) -> RunResult:
    """Three pairs a step. Images are in a folder of each rank, as on machines of their own."""
    folder = folder / f"{world.rank}"
    policy = FaultyPolicy(torch.float64)
    own = fault if fault is not None and fault.rank == world.rank else None
    rewards = Rewards(understanding=FaultyAnswers(own, policy, folder), generation=REWARDS.generation)
    grpo = {"steps": STEPS, "pairs_per_batch": 3, "learning_rate": 0.05}
    settings = run_settings(pairgrpo=grpo, checkpoint={"every": 0}, evaluation={"every": every})
    pairs = make_pairs(folder)
    held_out = HeldOutPairs(
        pairs=pairs,
        image_folder=folder,
        rewards=REWARDS,
        rollout=settings.rollout.model_copy(update={"max_new_tokens": 3}),
        pairs_per_batch=1,
        seed=3,
        run=RunFolder(out),
        world=world,
    )
    trainer = Trainer(
        settings,
        policy,
        pairs,
        rewards,
        out,
        image_folder=folder,
        strategy=Replicate(world),
        evaluate=held_out if every else None,
    )
    return trainer.run(resume=resume)


def faulty(folder: Path, fault: Fault, **limits: float) -> list[Outcome]:
    for rank in range(2):
        (folder / f"{rank}").mkdir()
    return run_ranks(2, folder / "outcomes", train, folder, folder / "run", fault, **limits)


def saved(folder: Path) -> list[str]:
    return [path.name for path in list_checkpoints(folder / "run" / "checkpoints")]


@pytest.mark.parametrize(
    ("fault", "error", "said"),
    [
        (Fault("raises"), "RewardError", "reward 'faulty' failed .*: reward server is gone"),
        (Fault("image", step=3), "ImageError", r"the image .*\.png does not open"),
        (Fault("raises", rank=0), "RewardError", "reward 'faulty' failed .*: reward server is gone"),
    ],
    ids=["reward", "image", "rank 0"],
)
def test_an_error_of_one_rank_ends_all_and_saves_the_last_step(
    tmp_path: Path, fault: Fault, error: str, said: str
) -> None:
    outcomes = faulty(tmp_path, fault)
    failed, other = outcomes[fault.rank], outcomes[1 - fault.rank]
    assert failed.error == error, failed.trace
    assert other.error == "OtherRankFailed", other.trace
    assert other.said == f"rank {fault.rank}: {failed.said}"
    assert saved(tmp_path) == ["step-000003"]
    assert len(MetricsLog(tmp_path / "run" / "metrics.jsonl").rows()) == 3


def test_a_gradient_that_is_not_finite_names_its_rank(tmp_path: Path) -> None:
    outcomes = faulty(tmp_path, Fault("nan", step=2))
    assert [outcome.error for outcome in outcomes] == ["GradientError"] * 2
    assert outcomes[0].said == outcomes[1].said
    assert outcomes[0].said.startswith("step 2: the gradient is not finite on rank 1 (norm nan), first in ")
    assert saved(tmp_path) == ["step-000001"]


def test_a_rank_that_dies_ends_the_run(tmp_path: Path) -> None:
    first, second = faulty(tmp_path, Fault("dies"))
    assert second.code == -signal.SIGKILL
    assert (first.error, first.said.partition(",")[0]) == ("LostRanks", "rank 1 is gone")
    assert "rank 1 was at step " in first.said
    assert saved(tmp_path) == ["step-000003"]


def test_a_rank_that_hangs_ends_the_run(tmp_path: Path) -> None:
    first, _ = faulty(tmp_path, Fault("hangs"), timeout=5.0, grace=0.5)
    assert first.error == "LostRanks", first.trace
    assert first.said == (
        "rank 1 did not come to the exchange of step 4, rollout within 5 seconds (distributed.timeout): "
        "rank 1 was at step 4, rollout"
    )
    assert saved(tmp_path) == ["step-000003"]


def test_stopped_by_a_signal_to_one_rank_then_resumed_by_others(tmp_path: Path) -> None:
    for rank in range(3):
        (tmp_path / f"{rank}").mkdir()
    full = tmp_path / "full"
    assert train(World(), tmp_path, full, every=3).steps == STEPS
    stopped = run_ranks(
        2, tmp_path / "first", train, tmp_path, tmp_path / "run", Fault("stopped", step=2), timeout=60.0
    )
    assert values_of(stopped) == [RunResult(2, STEPS, interrupted=True)] * 2
    assert "stopped after step 2 of 5; its checkpoint is saved" in stopped[0].log
    assert saved(tmp_path) == ["step-000002"]
    resumed = run_ranks(3, tmp_path / "second", resume, tmp_path, tmp_path / "run")
    assert values_of(resumed) == [RunResult(STEPS, STEPS, interrupted=False)] * 3
    assert [row["step"] for row in MetricsLog(tmp_path / "run" / "metrics.jsonl").rows()] == [1, 2, 3, 4, 5]
    one, other = (load_file(out / "final" / "model.safetensors") for out in (full, tmp_path / "run"))
    for name, value in one.items():
        assert torch.allclose(value, other[name], rtol=0, atol=1e-9), name


def resume(world: World, folder: Path, out: Path) -> RunResult:
    return train(world, folder, out, resume=True)


def test_a_second_signal_to_one_rank_ends_all_at_once(tmp_path: Path) -> None:
    outcomes = faulty(tmp_path, Fault("stopped at once"))
    assert [outcome.error for outcome in outcomes] == ["KeyboardInterrupt"] * 2
    assert saved(tmp_path) == ["step-000003"]


def evaluated(world: World, folder: Path, out: Path) -> RunResult:
    return train(world, folder, out, every=STEPS)


def test_held_out_pairs_are_shared_out(tmp_path: Path) -> None:
    for rank in range(3):
        (tmp_path / f"{rank}").mkdir()
    alone, run = RunFolder(tmp_path / "alone"), RunFolder(tmp_path / "run")
    evaluated(World(), tmp_path, alone.root)
    values_of(run_ranks(3, tmp_path / "outcomes", evaluated, tmp_path, run.root))
    first, other = (MetricsLog(folder.metrics).rows()[0] for folder in (alone, run))
    assert first == other
    name = "step-000000"
    assert (alone.evaluation / f"{name}.json").read_text() == (run.evaluation / f"{name}.json").read_text()
    images = sorted(path.name for path in (alone.evaluation / name).iterdir())
    assert len(images) == 5
    for image in images:
        assert (alone.evaluation / name / image).read_bytes() == (run.evaluation / name / image).read_bytes()


def too_many(world: World, folder: Path, out: Path) -> None:
    settings = run_settings(pairgrpo={"pairs_per_batch": 1})
    Trainer(settings, FakePolicy(), make_pairs(folder), REWARDS, out, strategy=Replicate(world))


def test_more_processes_than_pairs_per_step(tmp_path: Path) -> None:
    for outcome in run_ranks(2, tmp_path, too_many, tmp_path, tmp_path / "run"):
        assert outcome.error == "ValueError"
        assert outcome.said.startswith(
            "2 processes cannot share 1 pair per step; start fewer processes, or raise"
        )

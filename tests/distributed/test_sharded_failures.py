"""Faults of runs whose weights are sharded: what is saved, and that no process waits for another one forever."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image
from test_sharded_runs import Brightness, Letters

from pair_batches import make_pairs, run_settings
from pairuni.distributed.strategy import Replicate, Shard
from pairuni.distributed.world import World
from pairuni.pairgrpo.rollout import Rewards
from pairuni.pairgrpo.trainer import RunResult, Trainer
from pairuni.policies.janus.policy import JanusPolicy
from pairuni.records import Annotation
from pairuni.runs.metrics import MetricsLog
from pairuni.training.checkpoint import list_checkpoints
from ranks import Outcome, run_ranks
from tiny_models import tiny_janus


class Acting(Brightness):
    """Acts on its nth call, which is that of step n."""

    def __init__(self, call: int, act: Callable[[], None]) -> None:
        self.left, self.act = call, act

    def __call__(self, records: Sequence[Annotation], samples: Sequence[Image.Image]) -> list[float]:
        self.left -= 1
        if self.left == 0:
            self.act()
        return super().__call__(records, samples)


def fail() -> None:
    raise ConnectionError("reward server is gone")


def stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def write_no_more() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


FAULTS = {"fails": fail, "is stopped": stop, "cannot write": write_no_more}
STEP = {"fails": 4, "is stopped": 3, "cannot write": 3}


def train(world: World, folder: Path, out: Path, fault: str | None) -> RunResult:
    """Five steps, with a checkpoint after every second one; rank 1 has a fault in ``STEP``."""
    model, processor = tiny_janus()
    settings = run_settings(
        rollout={"understanding": 3, "generation": 2, "guidance": 3.0, "max_new_tokens": 3},
        pairgrpo={"steps": 5, "pairs_per_batch": 2, "learning_rate": 1e-3},
    )
    images = Acting(STEP[fault], FAULTS[fault]) if fault and world.rank == 1 else Brightness()
    trainer = Trainer(
        settings,
        JanusPolicy(model, processor),
        make_pairs(folder),
        Rewards(understanding=Letters(), generation=images),
        out,
        image_folder=folder,
        strategy=Shard(world, "cpu") if world.several else Replicate(world),
    )
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        return trainer.run(resume=out.exists())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def is_another(outcome: Outcome) -> None:
    assert (outcome.error, outcome.said[:7]) == ("OtherRankFailed", "rank 1:"), outcome.trace


@pytest.mark.parametrize(("fault", "saved"), [("fails", 2), ("is stopped", 3), ("cannot write", 2)])
def test_a_fault_of_one_rank_leaves_a_whole_checkpoint(tmp_path: Path, fault: str, saved: int) -> None:
    out = tmp_path / "run"
    first, second = run_ranks(2, tmp_path / "ranks", train, tmp_path, out, fault)
    if fault == "fails":
        assert second.error == "RewardError", second.trace
        is_another(first)
        assert "after step 3 cannot be saved; a resume continues after step 2" in " ".join(first.log)
    elif fault == "is stopped":
        assert first.value == second.value == RunResult(3, 5, interrupted=True), first.trace
    else:
        assert first.error == second.error == "CheckpointError", first.trace
        assert first.said == second.said
        assert first.said.startswith(f"rank 1: cannot write {out / 'checkpoints' / 'step-000004'}")
    assert list_checkpoints(out / "checkpoints")[-1].name == f"step-{saved:06d}"
    assert train(World(), tmp_path, out, None) == RunResult(5, 5, interrupted=False)
    assert [row["step"] for row in MetricsLog(out / "metrics.jsonl").rows()] == [1, 2, 3, 4, 5]

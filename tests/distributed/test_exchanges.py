"""Exchanges between processes, and what becomes of all when one fails, dies, hangs or is stopped."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from pairuni.distributed.shares import Share, cut
from pairuni.distributed.world import World, added
from ranks import run_ranks, values_of


def test_shares_are_consecutive_and_complete() -> None:
    for count in (1, 5, 16, 17):
        for size in (1, 2, 3, 5):
            parts = [Share(rank, size).of(count) for rank in range(size)]
            assert [place for part in parts for place in part] == list(range(count))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1
            batches = [batch for part in parts for batch in cut(part, 4)]
            assert [place for batch in batches for place in batch] == list(range(count))
            assert all(batch.start // 4 == (batch.stop - 1) // 4 for batch in batches)
    assert cut(range(3, 11), 4) == [range(3, 4), range(4, 8), range(8, 11)]
    assert cut(range(2, 2), 4) == []


def test_one_process_exchanges_with_itself() -> None:
    world = World()
    assert (world.is_main, world.several, world.gather("a"), world.on_main(lambda: 3)) == (
        True,
        False,
        ["a"],
        3,
    )
    assert (world.any(False), world.largest(2), added([{"x": 0.5}])) == (False, 2, {"x": 0.5})


def exchanges(world: World) -> Any:
    several = [
        torch.full((3,), float(world.rank)),
        torch.arange(4, dtype=torch.float64).view(2, 2),
        torch.ones(2, 3).t(),
    ]
    world.sum_tensors(several)
    return (
        world.gather({"rank": world.rank, "more": list(range(10 * world.rank))}),
        world.broadcast("main" if world.is_main else None),
        world.on_main(lambda: f"by {world.rank}"),
        world.any(world.rank == 1),
        world.any(False),
        world.largest(world.rank),
        added(world.gather({f"own{world.rank}": 1.0, "all": 0.1})),
        [tensor.tolist() for tensor in several],
    )


def test_exchanges(tmp_path: Path) -> None:
    first, *others = values_of(run_ranks(3, tmp_path, exchanges))
    assert all(other == first for other in others)
    gathered, main, by, one, none, largest, sums, tensors = first
    assert [row["rank"] for row in gathered] == [0, 1, 2]
    assert [len(row["more"]) for row in gathered] == [0, 10, 20]
    assert (main, by, one, none, largest) == ("main", "by 0", True, False, 2)
    assert sums == {"own0": 1.0, "own1": 1.0, "own2": 1.0, "all": 0.1 + 0.1 + 0.1}
    assert tensors == [[3.0] * 3, [[0.0, 3.0], [6.0, 9.0]], [[3.0, 3.0]] * 3]


def failing(world: World) -> None:
    world.barrier()
    if world.rank == 1:
        raise ValueError("a bad value")
    world.enter("step 1, rollout")
    world.barrier()


def test_all_learn_the_error_of_one(tmp_path: Path) -> None:
    first, second, third = run_ranks(3, tmp_path, failing)
    assert (second.error, second.said) == ("ValueError", "a bad value")
    for other in (first, third):
        assert (other.error, other.said) == ("OtherRankFailed", "rank 1: a bad value")


def dying(world: World) -> None:
    world.barrier()
    if world.rank == 1:
        world.enter("step 3, update")
        time.sleep(1.5)
        os.kill(os.getpid(), signal.SIGKILL)
    world.enter("step 3, rollout")
    world.barrier()


def test_a_rank_that_dies_is_named(tmp_path: Path) -> None:
    outcomes = run_ranks(3, tmp_path, dying)
    assert outcomes[1].code == -signal.SIGKILL
    for other in (outcomes[0], outcomes[2]):
        assert other.error in ("LostRanks", "OtherRankFailed")
        assert "rank 1 is gone" in other.said
        assert "rank 1 was at step 3, update" in other.said


def hanging(world: World) -> None:
    world.barrier()
    world.enter("step 7, rollout")
    if world.rank == 2:
        world.enter("step 7, rewards")
        time.sleep(8)
    world.barrier()


def test_a_rank_that_hangs_is_named(tmp_path: Path) -> None:
    first, second, third = run_ranks(3, tmp_path, hanging, timeout=4.0)
    for other in (first, second):
        assert other.error in ("LostRanks", "OtherRankFailed")
        assert other.said == (
            "rank 2 did not come to the exchange of step 7, rollout within 4 seconds (distributed.timeout): "
            "rank 2 was at step 7, rewards"
        )
    assert third.said == first.said


def stopped(world: World) -> None:
    world.barrier()
    if world.rank == 1:
        os.kill(os.getpid(), signal.SIGINT)
    world.barrier()


def test_an_interrupted_rank_ends_all(tmp_path: Path) -> None:
    assert [outcome.error for outcome in run_ranks(2, tmp_path, stopped)] == ["KeyboardInterrupt"] * 2


def stuck(world: World, folder: Path) -> None:
    descriptor = os.open(folder / f"stderr-{world.rank}", os.O_CREAT | os.O_WRONLY)
    os.dup2(descriptor, 2)
    world.barrier()
    if world.rank == 1:
        world.enter("step 2, update, micro-batch 1 of 3")
        time.sleep(100)
    world.enter("step 2, update, micro-batch 2 of 3", joint=True)
    dist.all_reduce(torch.ones(3))


def test_ranks_that_are_stuck_inside_torch_end_with_a_sentence(tmp_path: Path) -> None:
    first, second = run_ranks(2, tmp_path, stuck, tmp_path, timeout=3.0, grace=0.5)
    assert first.code == 1
    assert second.code == -signal.SIGKILL
    assert (tmp_path / "stderr-0").read_text() == (
        "error: step 2, update, micro-batch 2 of 3: the ranks waited longer than 3 seconds (distributed.timeout): "
        "rank 0 was at step 2, update, micro-batch 2 of 3; rank 1 was at step 2, update, micro-batch 1 of 3\n"
    )

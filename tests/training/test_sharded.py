"""AdamW and checkpoints on several processes, whose weights are whole or sharded by FSDP2."""

from __future__ import annotations

import logging
import os
import random
import resource
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint import HuggingFaceStorageReader
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from gloo_ranks import Ranks, run_ranks, start_ranks
from pairuni.io.files import clear_partial
from pairuni.training.checkpoint import Checkpoint, CheckpointError, delete_old, load_checkpoint, load_newest
from pairuni.training.digests import digest_of_tensors
from pairuni.training.optimizer import NamedAdamW
from pairuni.training.ranks import ONE_RANK
from pairuni.training.saver import CheckpointSaver, save_checkpoint
from pairuni.training.shards import SavedTensors, is_sharded


class Net(nn.Sequential):
    """Rows that two and three ranks share unevenly; the last layer has fewer rows than ranks."""

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        super().__init__(nn.Linear(4, 7), nn.Tanh(), nn.Linear(7, 5), nn.Tanh(), nn.Linear(5, 1))


def inputs(step: int) -> Tensor:
    return torch.randn(12, 4, generator=torch.Generator().manual_seed(step))


def make(ranks: Any, *, shard: bool, seed: int = 0) -> tuple[Net, NamedAdamW]:
    net = Net(seed)
    if shard:
        fully_shard(net, mesh=init_device_mesh("cpu", (ranks.world_size,)))
    return net, NamedAdamW(list(net.named_parameters()), learning_rate=0.1, weight_decay=0.1)


def train(net: Net, optimizer: NamedAdamW, steps: range) -> list[float]:
    """Every rank sees the same inputs, so that whole and sharded gradients are equal; the norms."""
    norms = []
    for step in steps:
        optimizer.zero_grad()
        net(inputs(step)).square().mean().backward()
        norm = optimizer.gradient_norm()
        optimizer.clip_gradients(0.5, norm)
        optimizer.step(0.1)
        norms.append(float(norm))
    return norms


def checkpoint(optimizer: NamedAdamW, step: int) -> Checkpoint:
    tensors = {
        "trained": optimizer.weights(),
        "optimizer": optimizer.state(),
        "random": {"cpu": torch.arange(5, dtype=torch.uint8)},
    }
    return Checkpoint(step=step, tensors=tensors, state={"seed": 3})


def whole(tensors: Any) -> dict[str, Tensor]:
    return {
        name: (value.full_tensor() if is_sharded(value) else value).clone() for name, value in tensors.items()
    }


def equal(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_sharded_steps_are_those_of_one_process() -> None:
    net, optimizer = make(ONE_RANK, shard=False)
    norms = train(net, optimizer, range(5))
    expected = whole(optimizer.weights()) | whole(optimizer.state())

    def work(ranks: Ranks) -> tuple[list[float], dict[str, Tensor]]:
        net, optimizer = make(ranks, shard=True)
        assert all(map(is_sharded, optimizer.weights().values()))
        norms = train(net, optimizer, range(5))
        return norms, whole(optimizer.weights()) | whole(optimizer.state())

    for found_norms, found in run_ranks(3, work):
        assert found_norms == pytest.approx(norms, rel=1e-5)
        assert found.keys() == expected.keys()
        for name, value in found.items():
            torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-7)


def test_a_gradient_that_one_rank_lacks_is_zero_there() -> None:
    def work(ranks: Ranks) -> tuple[float, dict[str, Tensor]]:
        _, optimizer = make(ranks, shard=True)
        for name, parameter in optimizer.parameters.items():
            if name.startswith("0.") and ranks.rank == 1:
                parameter.grad = torch.ones_like(parameter)
        norm = optimizer.gradient_norm()
        optimizer.step(0.1)
        # of seven rows of four weights and one bias, rank 1 has three
        assert float(norm) == pytest.approx((3 * 5) ** 0.5)
        return float(norm), whole(optimizer.state())

    one, two = run_ranks(2, work)
    assert one[0] == two[0]
    assert sorted(name for name in one[1] if name.endswith("/step")) == ["0.bias/step", "0.weight/step"]
    assert equal(one[1], two[1])
    assert not one[1]["0.weight/exp_avg"][:4].any()
    assert one[1]["0.weight/exp_avg"][4:].all()


def test_low_precision_shards_have_float32_masters(tmp_path: Path) -> None:
    def work(ranks: Ranks) -> bool:
        net = Net().to(torch.bfloat16)
        fully_shard(net, mesh=init_device_mesh("cpu", (ranks.world_size,)))
        optimizer = NamedAdamW(list(net.named_parameters()), learning_rate=1e-6)
        before = whole(optimizer.weights())
        for _ in range(3):
            optimizer.zero_grad()
            net(inputs(0).bfloat16()).float().square().mean().backward()
            optimizer.collect_gradients()
            optimizer.gradient_norm()
            optimizer.step(1e-6)
        after = whole(optimizer.weights())
        save_checkpoint(tmp_path, checkpoint(optimizer, 1), keep=1, ranks=ranks)
        other = NamedAdamW(list(net.named_parameters()), learning_rate=1e-6)
        found = load_checkpoint(tmp_path / "step-000001", ranks=ranks)
        other.load(found.tensors["trained"], found.tensors["optimizer"])
        return (
            after["0.weight"].dtype == torch.float32
            and not torch.equal(before["0.weight"], after["0.weight"])
            and equal(whole(other.weights()), after)
            and all(parameter.dtype == torch.bfloat16 for parameter in net.parameters())
        )

    assert all(run_ranks(2, work))


WAYS = [
    (2, True, 1, False),
    (2, True, 3, True),
    (2, True, 3, False),
    (2, False, 3, True),
    (1, False, 3, True),
]


@pytest.mark.parametrize(("saved_on", "saved_sharded", "loaded_on", "loaded_sharded"), WAYS)
def test_a_checkpoint_loads_on_any_number_of_ranks(
    tmp_path: Path, saved_on: int, saved_sharded: bool, loaded_on: int, loaded_sharded: bool
) -> None:
    def save(ranks: Any) -> dict[str, Tensor]:
        net, optimizer = make(ranks, shard=saved_sharded)
        train(net, optimizer, range(3))
        save_checkpoint(tmp_path, checkpoint(optimizer, 3), keep=1, ranks=ranks)
        return whole(optimizer.weights()) | whole(optimizer.state())

    def load(ranks: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        _, optimizer = make(ranks, shard=loaded_sharded, seed=9)
        found = load_newest(
            tmp_path,
            use=lambda c: optimizer.load(c.tensors["trained"], c.tensors["optimizer"]),
            ranks=ranks,
        )
        assert found is not None
        assert found.state == {"seed": 3}
        return whole(optimizer.weights()) | whole(optimizer.state()), whole(found.tensors["random"])

    expected = run_ranks(saved_on, save) if saved_on > 1 else [save(ONE_RANK)]
    loaded = run_ranks(loaded_on, load) if loaded_on > 1 else [load(ONE_RANK)]
    for values, generators in loaded:
        assert equal(values, expected[0])
        assert torch.equal(generators["cpu"], torch.arange(5, dtype=torch.uint8))
    names = sorted(path.name for path in (tmp_path / "step-000003").iterdir())
    parts = [f"-{rank:05d}-of-{saved_on:05d}" for rank in range(1, saved_on + 1)] if saved_sharded else [""]
    groups = [f"{group}{part}.safetensors" for group in ("optimizer", "trained") for part in parts]
    assert names == sorted([*groups, "random.safetensors", "state.json", "SHA256SUMS"])


def test_of_several_replicas_one_saves(tmp_path: Path) -> None:
    """Rows are shared by two ranks, and twice the same (HSDP)."""

    def save(ranks: Ranks) -> dict[str, Tensor]:
        net = Net()
        fully_shard(net, mesh=init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard")))
        optimizer = NamedAdamW(list(net.named_parameters()), learning_rate=0.1)
        norms = train(net, optimizer, range(2))
        save_checkpoint(tmp_path, checkpoint(optimizer, 2), keep=1, ranks=ranks)
        return whole(optimizer.weights()) | whole(optimizer.state()) | {"norms": torch.tensor(norms)}

    expected = run_ranks(4, save)[0]
    net, optimizer = make(ONE_RANK, shard=False)
    optimizer = NamedAdamW(list(net.named_parameters()), learning_rate=0.1)
    assert expected.pop("norms").tolist() == pytest.approx(train(net, optimizer, range(2)), rel=1e-5)
    found = load_checkpoint(tmp_path / "step-000002")
    assert equal(dict(found.tensors["trained"]) | dict(found.tensors["optimizer"]), expected)
    sizes = [path.stat().st_size for path in sorted((tmp_path / "step-000002").glob("trained-*"))]
    assert len(sizes) == 4
    assert max(sizes[2:]) < min(sizes[:2]) / 2


def sharded_steps(root: Path, *steps: int) -> list[dict[str, Tensor]]:
    """Checkpoints of two ranks after each of ``steps``, and the weights of the last on each rank."""

    def save(ranks: Ranks) -> dict[str, Tensor]:
        net, optimizer = make(ranks, shard=True)
        for step in steps:
            train(net, optimizer, range(step, step + 1))
            save_checkpoint(root, checkpoint(optimizer, step), keep=9, ranks=ranks)
        return whole(optimizer.weights())

    return run_ranks(2, save)


def test_torch_reads_our_shards(tmp_path: Path) -> None:
    (expected, _) = sharded_steps(tmp_path, 1)
    found = {name: torch.zeros_like(value) for name, value in expected.items()}
    reader = HuggingFaceStorageReader(str(tmp_path / "step-000001"))
    dcp.load(found, storage_reader=reader, no_dist=True)
    assert equal(found, expected)


def test_one_changed_byte_in_any_file_is_found_by_all_ranks(tmp_path: Path) -> None:
    sharded_steps(tmp_path, 1, 2)
    folder = tmp_path / "step-000002"
    files = sorted(folder.iterdir())
    assert len(files) == 7

    def load(ranks: Ranks) -> list[tuple[int, str]]:
        found = []
        for file in files:
            if ranks.rank == 0:
                data = file.read_bytes()
                file.write_bytes(data[:-3] + bytes([data[-3] ^ 1]) + data[-2:])
            ranks.gather(None)
            said: list[str] = []
            handler = logging.Handler()
            handler.emit = lambda record, said=said: said.append(record.getMessage())
            logging.getLogger("pairuni").addHandler(handler)
            newest = load_newest(tmp_path, ranks=ranks)
            logging.getLogger("pairuni").removeHandler(handler)
            assert newest is not None
            found.append((newest.step, " ".join(said)))
            ranks.gather(None)
            if ranks.rank == 0:
                file.write_bytes(data)
        return found

    one, two = run_ranks(2, load)
    assert one == two
    for file, (step, said) in zip(files, one, strict=True):
        assert step == 1, file
        assert "step-000002 is damaged" in said
        # a changed checksum seems to be a changed file
        assert file.name in said or file.name == "SHA256SUMS"


def test_a_part_that_is_missing_is_named(tmp_path: Path) -> None:
    sharded_steps(tmp_path, 1)
    (tmp_path / "step-000001" / "trained-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"trained-00002-of-00002\.safetensors"):
        load_checkpoint(tmp_path / "step-000001")
    with pytest.raises(ValueError, match=r"(a part|row 0) of .* is missing"):
        SavedTensors([tmp_path / "step-000001" / "trained-00001-of-00002.safetensors"])


@pytest.mark.parametrize("background", [True, False])
def test_a_file_that_one_rank_cannot_write_is_the_same_sentence_on_all(
    tmp_path: Path, background: bool
) -> None:
    def work(ranks: Ranks) -> str:
        net, optimizer = make(ranks, shard=True)
        saver = CheckpointSaver(tmp_path, ranks=ranks)
        train(net, optimizer, range(1))
        saver.begin(checkpoint(optimizer, 1))
        saver.finish()
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        if ranks.rank == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))  # no file grows beyond 200 bytes
        if background:
            saver.begin(checkpoint(optimizer, 2))
        with pytest.raises(CheckpointError) as caught:
            saver.finish() if background else saver.begin(checkpoint(optimizer, 2), wait=True)
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert saver.saved == 1
        saver.begin(checkpoint(optimizer, 3))
        while saver.saved < 3:
            saver.poll()
        return str(caught.value)

    one, two = run_ranks(2, work)
    assert one == two
    assert one.startswith(f"rank 1: cannot write {tmp_path / 'step-000002'}: ")
    assert "File too large" in one
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000001", "step-000003"]
    assert load_checkpoint(tmp_path / "step-000003").step == 3


def test_digests_do_not_depend_on_sharding() -> None:
    def work(ranks: Ranks) -> str:
        return digest_of_tensors(make(ranks, shard=True)[0].state_dict())

    assert run_ranks(2, work) == [digest_of_tensors(Net().state_dict())] * 2


def test_a_checkpoint_is_complete_without_an_exchange(tmp_path: Path) -> None:
    def work(ranks: Ranks) -> int:
        _, optimizer = make(ranks, shard=True)
        saver = CheckpointSaver(tmp_path, ranks=ranks)
        saver.begin(checkpoint(optimizer, 1))
        while not (tmp_path / "step-000001").exists():
            time.sleep(0.01)
        saver.give_up()
        return saver.saved

    assert run_ranks(2, work)[0] == 1
    assert load_checkpoint(tmp_path / "step-000001").step == 1
    assert not list((tmp_path / "step-000001").glob(".*"))


def test_a_checkpoint_that_another_rank_does_not_write_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pairuni.training.saver._PATIENCE", 0.2)

    def work(ranks: Ranks) -> int:
        _, optimizer = make(ranks, shard=True)
        saver = CheckpointSaver(tmp_path, ranks=ranks)
        if ranks.rank == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (200, resource.RLIM_INFINITY))
        saver.begin(checkpoint(optimizer, 1))
        saver.give_up()
        return saver.saved

    assert run_ranks(2, work) == [0, 0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_two_ranks_killed_at_random_moments_go_on_from_a_whole_checkpoint(tmp_path: Path, kills: int) -> None:
    steps = 5 * kills

    def work(root: Path, ranks: Ranks) -> dict[str, Tensor]:
        net, optimizer = make(ranks, shard=True)
        if ranks.rank == 0:
            clear_partial(root)
        newest = load_newest(
            root, use=lambda c: optimizer.load(c.tensors["trained"], c.tensors["optimizer"]), ranks=ranks
        )
        saver = CheckpointSaver(root, ranks=ranks, after=lambda: delete_old(root, keep=2))
        for step in range(newest.step + 1 if newest else 1, steps + 1):
            train(net, optimizer, range(step, step + 1))
            saver.poll()
            saver.begin(checkpoint(optimizer, step))
        saver.finish()
        return whole(optimizer.weights()) | whole(optimizer.state())

    full, cut = tmp_path / "full", tmp_path / "cut"
    began = time.monotonic()
    expected = run_ranks(2, partial(work, full))
    seconds = time.monotonic() - began
    cut.mkdir()
    rng = random.Random(kills)
    for _ in range(kills):
        ranks = start_ranks(2, partial(work, cut))
        time.sleep(rng.uniform(0.0, 2 * seconds / kills))
        for child, reads in ranks:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(reads)
    assert all(equal(found, expected[0]) for found in run_ranks(2, partial(work, cut)))
    assert sorted(path.name for path in cut.iterdir()) == [f"step-{step:06d}" for step in (steps - 1, steps)]

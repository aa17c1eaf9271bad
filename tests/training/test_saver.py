"""Checkpoints written in a thread while training goes on, by one process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pairuni.training import shards
from pairuni.training.checkpoint import (
    Checkpoint,
    CheckpointError,
    delete_old,
    list_checkpoints,
    load_checkpoint,
)
from pairuni.training.saver import CheckpointSaver, save_checkpoint


def example(step: int, tensor: Tensor | None = None) -> Checkpoint:
    value = torch.full((3, 2), float(step)) if tensor is None else tensor
    return Checkpoint(
        step=step, tensors={"trained": {"model.layers.0.q.lora_A.default.weight": value}}, state={}
    )


def steps(root: Path) -> list[int]:
    return [int(path.name.removeprefix("step-")) for path in list_checkpoints(root)]


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Files are written once it is set."""
    opened = threading.Event()
    real = shards.save_file

    def write(tensors: dict[str, Tensor], path: Path, metadata: Any) -> None:
        assert opened.wait(60)
        real(tensors, path, metadata)

    monkeypatch.setattr(shards, "save_file", write)
    return opened


def test_training_goes_on_while_a_copy_is_written(tmp_path: Path, gate: threading.Event) -> None:
    saver = CheckpointSaver(tmp_path)
    weights = torch.full((3, 2), 1.0)
    saver.begin(example(1, weights))
    weights.fill_(2.0)  # the next step
    saver.poll()
    assert (saver.begun, saver.saved, steps(tmp_path)) == (1, 0, [])
    gate.set()
    saver.finish()
    assert (saver.begun, saver.saved, steps(tmp_path)) == (1, 1, [1])
    (value,) = load_checkpoint(tmp_path / "step-000001").tensors["trained"].values()
    assert torch.equal(value, torch.full((3, 2), 1.0))


def test_one_checkpoint_is_written_at_a_time(tmp_path: Path, gate: threading.Event) -> None:
    saver = CheckpointSaver(tmp_path)
    saver.begin(example(1))
    threading.Timer(0.2, gate.set).start()
    saver.begin(example(2))
    assert saver.saved >= 1
    saver.finish()
    assert steps(tmp_path) == [1, 2]


CALLS: dict[str, Callable[[CheckpointSaver], None]] = {
    "the next save": lambda saver: saver.begin(example(3)),
    "the end": lambda saver: saver.finish(),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_failure_is_raised_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    saver = CheckpointSaver(tmp_path)
    saver.begin(example(1))
    saver.finish()
    real = shards.save_file

    def fail(tensors: Mapping[str, Tensor], path: Path, metadata: Any) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shards, "save_file", fail)
    saver.begin(example(2))
    with pytest.raises(CheckpointError, match=r"cannot write .*step-000002: the disk is full"):
        CALLS[call](saver)
    monkeypatch.setattr(shards, "save_file", real)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]
    saver.begin(example(4))
    saver.finish()
    assert (saver.saved, steps(tmp_path)) == (4, [1, 4])


def test_without_memory_for_a_copy_training_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_memory(*args: Any, **kwargs: Any) -> Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory\nmore")

    monkeypatch.setattr("pairuni.training.saver._Copies._copy", no_memory)
    saver = CheckpointSaver(tmp_path)
    with caplog.at_level("WARNING", logger="pairuni"):
        saver.begin(example(1))
    assert (saver.saved, steps(tmp_path)) == (1, [1])
    assert "training waits for its checkpoints: DefaultCPUAllocator: can't allocate memory" in caplog.text


SCORES = {1: 0.4, 2: 0.9, 3: 0.7, 4: 0.9, 5: 0.1, 7: 1.0, 8: 0.2}
KEPT = {0: [7, 8], 1: [4, 7, 8], 2: [2, 4, 7, 8], 3: [2, 3, 4, 7, 8], 9: [1, 2, 3, 4, 5, 7, 8]}


@pytest.mark.parametrize("best", KEPT)
def test_the_newest_and_the_best_of_the_others_are_kept(tmp_path: Path, best: int) -> None:
    for step in range(1, 9):  # step 6 has no score
        save_checkpoint(tmp_path, example(step), keep=99)
    delete_old(tmp_path, keep=2, keep_best=best, scores=lambda: SCORES)
    assert steps(tmp_path) == KEPT[best]

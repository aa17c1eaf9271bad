import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from pairuni.files import clear_partial
from pairuni.training import checkpoint as module
from pairuni.training.checkpoint import (
    Checkpoint,
    CheckpointError,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
    write_folder,
)


def example(step: int) -> Checkpoint:
    tensors = {
        "trained": {
            "a.weight": torch.arange(6.0).view(2, 3).t() + step,
            "b": torch.ones(2, dtype=torch.bfloat16),
        },
        "optimizer": {},
        "random": {"cpu": torch.get_rng_state()},
    }
    return Checkpoint(step=step, tensors=tensors, state={"num_tokens": 5 * step, "name": "ä"})


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def test_round_trip(tmp_path: Path) -> None:
    written = example(12)
    read = load_checkpoint(save_checkpoint(tmp_path, written, keep=1))
    assert read.step == 12
    assert read.state == written.state
    assert set(read.tensors) == set(written.tensors)
    for group, tensors in written.tensors.items():
        assert set(read.tensors[group]) == set(tensors)
        for name, value in tensors.items():
            assert read.tensors[group][name].dtype == value.dtype
            assert torch.equal(read.tensors[group][name], value)
    assert not list(tmp_path.rglob("*.pt")) + list(tmp_path.rglob("*.pkl"))


def test_the_newest_are_kept_in_numeric_order(tmp_path: Path) -> None:
    for step in (5, 999_999, 1_000_000):
        save_checkpoint(tmp_path, example(step), keep=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-999999", "step-1000000"]


def test_a_folder_without_its_state_is_no_checkpoint(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, example(1), keep=3)
    (save_checkpoint(tmp_path, example(2), keep=3) / "state.json").unlink()
    (tmp_path / ".step-000003.partial").mkdir()
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-000001"]
    clear_partial(tmp_path)
    assert names(tmp_path) == ["step-000001", "step-000002"]


FULL = [
    OSError(errno.ENOSPC, "No space left on device"),
    SafetensorError('Error while serializing: I/O error: Os { code: 28, message: "No space" } (os error 28)'),
]


@pytest.mark.parametrize("error", FULL, ids=["system", "safetensors"])
def test_a_full_disk_is_one_sentence_and_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    good = save_checkpoint(tmp_path, example(1), keep=1)
    real = module.save_file

    def fill_up(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
        if path.name == "optimizer.safetensors":
            raise error
        real(dict(tensors), path)

    monkeypatch.setattr(module, "save_file", fill_up)
    with pytest.raises(CheckpointError, match=r"cannot write .*step-000002: the disk is full") as caught:
        save_checkpoint(tmp_path, example(2), keep=1)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == ["step-000001"]
    assert load_checkpoint(good).step == 1


def test_a_write_that_fails_keeps_the_folder_it_would_replace(tmp_path: Path) -> None:
    def write(content: str) -> Any:
        return lambda folder: (folder / "file").write_text(content)

    def fail(folder: Path) -> None:
        (folder / "file").write_text("half")
        raise OSError(errno.EACCES, "Permission denied")

    write_folder(tmp_path / "final", write("one"))
    with pytest.raises(CheckpointError, match="Permission denied"):
        write_folder(tmp_path / "final", fail)
    assert (tmp_path / "final" / "file").read_text() == "one"
    write_folder(tmp_path / "final", write("two"))
    assert (tmp_path / "final" / "file").read_text() == "two"
    assert names(tmp_path) == ["final"]


@pytest.mark.parametrize("file", ["trained.safetensors", "state.json"])
def test_a_damaged_file_is_named(tmp_path: Path, file: str) -> None:
    folder = save_checkpoint(tmp_path, example(1), keep=1)
    path = folder / file
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(CheckpointError, match=file):
        load_checkpoint(folder)

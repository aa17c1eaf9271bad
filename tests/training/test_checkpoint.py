import errno
import json
import random
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from pairuni.io.files import clear_partial
from pairuni.training import checkpoint as module
from pairuni.training import shards
from pairuni.training.checkpoint import (
    Checkpoint,
    CheckpointError,
    delete_old,
    list_checkpoints,
    load_checkpoint,
    load_newest,
    rename_newer,
    write_folder,
)
from pairuni.training.saver import save_checkpoint


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
    real = shards.save_file

    def fill_up(tensors: Mapping[str, torch.Tensor], path: Path, metadata: Any) -> None:
        if path.name == "optimizer.safetensors":
            raise error
        real(dict(tensors), path, metadata)

    monkeypatch.setattr(shards, "save_file", fill_up)
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


FILES = ["SHA256SUMS", "optimizer.safetensors", "random.safetensors", "state.json", "trained.safetensors"]


@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_is_named(tmp_path: Path, file: str) -> None:
    folder = save_checkpoint(tmp_path, example(1), keep=1)
    assert names(folder) == FILES
    path = folder / file
    path.write_bytes(path.read_bytes()[:10])
    with pytest.raises(CheckpointError, match=file):
        load_checkpoint(folder)
    path.unlink()
    with pytest.raises(CheckpointError, match=file):
        load_checkpoint(folder)


def test_the_checksums_are_those_of_sha256sum(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, example(1), keep=1)
    done = subprocess.run(
        ["sha256sum", "--strict", "--check", "SHA256SUMS"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": OK") == len(FILES) - 1


def test_the_newest_whole_one_is_taken_and_the_damaged_one_does_not_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, example(step), keep=3)
    flip(tmp_path / "step-000003" / "trained.safetensors", -1)
    with caplog.at_level("WARNING", logger="pairuni"):
        found = load_newest(tmp_path)
    assert found is not None
    assert found.step == 2
    assert "step-000003 is damaged" in caplog.text
    rename_newer(tmp_path, 2)
    save_checkpoint(tmp_path, example(4), keep=2)
    assert names(tmp_path) == ["damaged-step-000003", "step-000002", "step-000004"]
    for folder in list_checkpoints(tmp_path):
        flip(folder / "state.json", 5)
    with pytest.raises(
        CheckpointError, match=r"every checkpoint in .* is damaged; the newest: .*step-000004"
    ):
        load_newest(tmp_path)
    for folder in list_checkpoints(tmp_path):
        (folder / "state.json").unlink()
    with pytest.raises(
        CheckpointError, match=r"every checkpoint in .* is damaged; the newest: .*has no state\.json"
    ):
        load_newest(tmp_path)
    assert load_newest(tmp_path / "none") is None


def test_what_a_kill_left_over_is_deleted(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        save_checkpoint(tmp_path, example(step), keep=9)
    delete_old(tmp_path, keep=2)
    assert names(tmp_path) == ["step-000003", "step-000004"]


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << (place % 8)
    path.write_bytes(data)


def mutate(folder: Path, rng: random.Random) -> str:
    """One damage to a checkpoint, and what it was."""
    path = folder / rng.choice(FILES)
    data = path.read_bytes()
    kind = rng.choice(["flip", "cut", "grow", "delete", "empty", "swap", "json", "folder", "rename"])
    if kind == "flip":
        flip(path, rng.randrange(len(data)))
    elif kind == "cut":
        path.write_bytes(data[: rng.randrange(len(data))])
    elif kind == "grow":
        path.write_bytes(data + rng.randbytes(rng.randint(1, 40)))
    elif kind == "delete":
        path.unlink()
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "swap":
        other = rng.choice([file for file in FILES if file != path.name])
        path.write_bytes((folder / other).read_bytes())
    elif kind == "folder":
        path.unlink()
        path.mkdir()
    elif kind == "rename":
        folder.rename(folder.with_name("step-000099"))
    else:  # a state that nobody wrote, with checksums that fit
        state = json.loads((folder / "state.json").read_text())
        key = rng.choice([*state, "new"])
        state[key] = rng.choice(
            [None, True, -1, 10**400, 1e308, "x", [], [1], ["../x"], {}, {"a": []}, "\0", ["a/b"]]
        )
        text = rng.choice(
            [json.dumps(state), "[" * 5000, "null", "[]", "1" * 5000, '{"step": ' + "9" * 5000 + "}"]
        )
        (folder / "state.json").write_text(text)
        sums = module._sums_of(folder, [name for name in FILES if name != "SHA256SUMS"])
        (folder / "SHA256SUMS").write_text("".join(f"{sums[name]}  {name}\n" for name in sums))
        return f"state.json is {text[:300]}"
    return f"{kind} {path.name}"


@pytest.mark.parametrize("count", [60, pytest.param(4000, marks=pytest.mark.slow)])
def test_no_damage_is_read_as_if_it_were_none(tmp_path: Path, count: int) -> None:
    whole = save_checkpoint(tmp_path / "whole", example(7), keep=1)
    truth = load_checkpoint(whole)
    rng = random.Random(count)
    for number in range(count):
        root = tmp_path / str(number)
        folder = root / "step-000007"
        shutil.copytree(whole, folder)
        what = mutate(folder, rng)
        read = error = None
        try:
            read = load_newest(root)
        except CheckpointError as refused:
            error = refused
        assert error is None or str(root) in str(error), what
        if read is not None:
            # the state itself is the run's to judge
            assert read.step == 7, what
            assert what.startswith("state.json") or same(read, truth), what
        shutil.rmtree(root)


def same(one: Checkpoint, two: Checkpoint) -> bool:
    return (one.step, one.state) == (two.step, two.state) and all(
        torch.equal(tensor, two.tensors[group][name])
        for group, tensors in one.tensors.items()
        for name, tensor in tensors.items()
    )

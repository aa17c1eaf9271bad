"""Checkpoint folders that are either whole or absent: tensors as safetensors, the rest as JSON. No pickles."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pairuni.files import remove_folder, replacing_folder

_FOLDER = re.compile(r"step-(\d{6,})")
_STATE = "state.json"


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or read; earlier checkpoints are untouched."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """tensors: groups of named tensors, one safetensors file each; state: what JSON can hold."""

    step: int
    tensors: Mapping[str, Mapping[str, Tensor]]
    state: Mapping[str, Any]


def list_checkpoints(root: Path) -> list[Path]:
    """Whole checkpoints under ``root``, oldest first."""
    found = [p for p in root.glob("step-*") if _FOLDER.fullmatch(p.name) and (p / _STATE).is_file()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


def save_checkpoint(root: Path, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Write ``root/step-<step>`` whole, then delete all but the newest ``keep`` checkpoints.

    Raises CheckpointError when the disk is full or refuses; nothing half-written stays behind.
    """

    def write(folder: Path) -> None:
        for name, tensors in checkpoint.tensors.items():
            plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
            save_file(plain, folder / f"{name}.safetensors")
        content = {"step": checkpoint.step, "files": sorted(checkpoint.tensors), **checkpoint.state}
        (folder / _STATE).write_text(json.dumps(content, indent=1) + "\n")

    target = root / f"step-{checkpoint.step:06d}"
    write_folder(target, write)
    for old in list_checkpoints(root)[:-keep]:
        remove_folder(old)
    return target


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a folder that ``save_checkpoint`` wrote. Raises CheckpointError naming the file that is broken."""
    state_file = folder / _STATE
    try:
        state = json.loads(state_file.read_text())
        step, names = state.pop("step"), state.pop("files")
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{state_file} is not a checkpoint's state: {error}") from error
    tensors = {}
    for name in names:
        file = folder / f"{name}.safetensors"
        try:
            tensors[name] = load_file(file)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{file} cannot be read: {error}") from error
    return Checkpoint(step=step, tensors=tensors, state=state)


def write_folder(target: Path, write: Callable[[Path], None]) -> None:
    """Make ``target`` hold what ``write`` puts into the folder it is given, replacing it in one rename.

    Raises CheckpointError in one sentence when the disk is full or refuses.
    """
    try:
        with replacing_folder(target) as aside:
            write(aside)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(_reason(target, error)) from error


def _reason(target: Path, error: OSError | SafetensorError) -> str:
    # safetensors wraps the operating system's error into text of its own
    full = f"os error {errno.ENOSPC}" in str(error) or getattr(error, "errno", None) == errno.ENOSPC
    if full:
        return (
            f"cannot write {target}: the disk is full; free some space, then resume from the last checkpoint"
        )
    return f"cannot write {target}: {error}"
